-- Completes a fan-out whose plan is whole and of which nothing is unfinished, and wakes its run. Called after a
-- worker's own finish is committed: whoever finished last sees all the others. The step's row lock lets one win. The run is
-- locked before it, as everywhere, and only when there is something to complete.
with whole as materialized (
    select s.run_id
      from lockgate.run_steps s
     where s.run_id = $1 and s.path = $2 and s.status = 'open' and s.planned_at is not null
       -- In the order of run_batches_waiting: what waits lies together at the end of the table, so that a scan for the
       -- first of it, which looks cheap, reads all that is done before.
       and (select b.seq from lockgate.run_batches b
             where b.run_id = $1 and b.step = $2 and b.status in ('free', 'recoverable')
             order by b.not_before, b.seq
             limit 1) is null
       and not exists (select 1 from lockgate.run_batches b
                        where b.run_id = $1 and b.step = $2 and b.status = 'claimed')
), held as materialized (
    select r.id from whole join lockgate.task_runs r on r.id = whole.run_id for no key update of r
), done as (
    update lockgate.run_steps s
       set status = 'completed', finished_at = clock_timestamp(),
           result = convert_to((
               select json_build_object(
                   'items', coalesce(sum(b.n_items), 0), 'batches', count(*), 'delivered', coalesce(sum(b.delivered), 0),
                   'refused', coalesce(sum(b.refused), 0), 'unknown', coalesce(sum(b.unknown), 0),
                   'skipped', coalesce(sum(b.skipped), 0), 'vanished', coalesce(sum(b.vanished), 0))
                 from lockgate.run_batches b
                where b.run_id = s.run_id and b.step = s.path and b.status = 'done')::text, 'UTF8')
      from held
     where s.run_id = held.id and s.path = $2 and s.status = 'open'
    returning s.run_id
)
update lockgate.task_runs r
   set wake_at = n.at, rank = n.at - r.priority * interval '15 seconds', wake_seq = r.wake_seq + 1
  from done cross join (select clock_timestamp() as at) n
 where r.id = done.run_id
