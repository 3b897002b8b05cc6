drop view lockgate.v_replicas;
create view lockgate.v_replicas as
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
       r.clock_offset_s
  from lockgate.replicas r
  left join held h on h.replica = r.id
  left join lockgate.leader_lease l on l.name = 'engine' and l.holder = r.id;
comment on view lockgate.v_replicas is 'Replicas that live, and those that are gone and not pruned yet. Whole';
comment on column lockgate.v_replicas.replica is 'One process start';
comment on column lockgate.v_replicas.state is 'live, draining, stopped (in good order) or gone (it says nothing any more)';
comment on column lockgate.v_replicas.leads is 'Whether it leads';
comment on column lockgate.v_replicas.roles is 'What it does: api, leader, worker';
comment on column lockgate.v_replicas.workflows is 'How many workflows'' code it has';
comment on column lockgate.v_replicas.silent_s is 'Seconds since its last heartbeat';
comment on column lockgate.v_replicas.batches_held is 'Batches that it held at its last heartbeat';
comment on column lockgate.v_replicas.runs_held is 'Runs whose code it runs now';
comment on column lockgate.v_replicas.breakers_open is 'Topics that it does not send to, or only tries';

do $$
declare
    uncommented record;
begin
    -- A column that is one of its table's means what it means there.
    for uncommented in
        select a.attname as name, col_description(b.attrelid, b.attnum) as meaning
          from pg_attribute a
          join pg_attribute b on b.attrelid = 'lockgate.replicas'::regclass and b.attnum > 0 and b.attname = a.attname
         where a.attrelid = 'lockgate.v_replicas'::regclass and a.attnum > 0 and col_description(a.attrelid, a.attnum) is null
    loop
        execute format('comment on column lockgate.v_replicas.%I is %L', uncommented.name, uncommented.meaning);
    end loop;
end $$;

do $$
declare
    role text;
begin
    revoke all on lockgate.v_replicas from public;
    for role in select rolname from pg_roles where rolname in ('lockgate_engine', 'lockgate_operator', 'lockgate_reader') loop
        execute format('grant select on lockgate.v_replicas to %I', role);
    end loop;
end $$;

alter table lockgate.replicas drop column host;
