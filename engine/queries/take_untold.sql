-- Takes away what nobody has told of yet: starts and ends of runs that were done in SQL. From a place on: behind an old
-- snapshot what was deleted stays in the index, and each page would walk over all pages before it.
with taken as (
    delete from lockgate.untold u
     where u.id = any (array(select o.id from lockgate.untold o where o.id > $1 order by o.id limit $2))
    returning u.id, u.run_id, u.started_by, u.ended_as
)
select t.id as place, t.started_by, r.id, r.workflow, coalesce(r.queue, r.workflow) as queue, coalesce(r.slot, r.repeats_slot) as slot,
       t.ended_as, t.ended_as = r.status as stands, r.claim_token, r.attempts, r.traceparent,
       greatest(0, extract(epoch from e.at - coalesce(r.nominal_at, r.created_at)))::float8 as took_s,
       greatest(0, extract(epoch from clock_timestamp() - e.at))::float8 as since_s
  from taken t
  join lockgate.task_runs r on r.id = t.run_id
 cross join lateral (select coalesce(r.finished_at, clock_timestamp()) as at) e
