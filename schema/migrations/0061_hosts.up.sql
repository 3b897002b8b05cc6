-- Where a replica is: its id alone leads nobody to its log.
alter table lockgate.replicas add column host text;
comment on column lockgate.replicas.host is
    'What its machine, container or pod is called; null: it says nothing of it, or is of a binary of before';

create or replace view lockgate.v_replicas as
with held as materialized (
    select t.claimed_by as replica, count(*) as runs from lockgate.task_runs t where t.claim_id is not null group by t.claimed_by
)
select r.id as replica,
       case when r.stopped_at is not null then 'stopped' when r.seen_at + r.stale_after < statement_timestamp() then 'gone'
            when r.draining then 'draining' else 'live' end as state,
       coalesce(l.expires_at > statement_timestamp(), false) as leads,
       r.version,
       array_to_string(r.roles, ',') as roles,
       cardinality(r.workflows) as workflows,
       r.started_at,
       r.seen_at,
       extract(epoch from statement_timestamp() - r.seen_at)::float8 as silent_s,
       r.stopped_at,
       r.in_flight as batches_held,
       coalesce(h.runs, 0) as runs_held,
       r.window_used,
       r.window_size,
       jsonb_array_length(r.breakers) as breakers_open,
       r.clock_offset_s,
       r.host
  from lockgate.replicas r
  left join held h on h.replica = r.id
  left join lockgate.leader_lease l on l.name = 'engine' and l.holder = r.id;
comment on column lockgate.v_replicas.host is 'What its machine, container or pod is called';
