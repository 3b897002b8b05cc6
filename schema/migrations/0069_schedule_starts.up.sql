-- What a schedule starts has a queue, a priority, a tenant, a limit key and attributes like what anybody else starts.

-- Without defaults: a leader or a command line of an older release writes rows that say nothing of them, and leaves what is
-- said where it changes a schedule.
alter table lockgate.schedules
    add column queue text check (queue <> '' and length(queue) <= 200),
    add column priority smallint check (priority between 0 and 20),
    add column tenant text check (tenant <> '' and length(tenant) <= 200),
    add column limit_key text check (limit_key <> '' and length(limit_key) <= 200),
    add column attributes jsonb check (
        -- What is no object has no members that could be looked at.
        case when jsonb_typeof(attributes) <> 'object' then false
             else octet_length(attributes::text) <= 65536
                 and not jsonb_path_exists(attributes,
                     'strict $.* ? (@.type() != "string" && @.type() != "number" && @.type() != "boolean")') end);
comment on column lockgate.schedules.queue is 'Queue from which its runs are claimed; null: the one with the name of their workflow';
comment on column lockgate.schedules.priority is 'Its runs go before those of lower priority; null: 0';
comment on column lockgate.schedules.tenant is 'On whose behalf its runs are, for fair queues; null: nobody''s';
comment on column lockgate.schedules.limit_key is 'Key of the limits of their queue that hold for each key; null: none';
comment on column lockgate.schedules.attributes is 'By what its runs are found: an object of strings, numbers and booleans; null: nothing';

-- Where all that starts the run of a slot comes by, so that it is the same whoever asks: leaders of older releases, and backfills.
do $$
declare
    before text := E'    if p_debounce_key is not null then\n        -- One that a replica claims';
    was text := pg_get_functiondef(p.oid) from pg_proc p
        where p.pronamespace = 'lockgate'::regnamespace and p.proname = 'try_start_new_run';
begin
    if strpos(was, before) = 0 then raise exception 'try_start_new_run is not as it was'; end if;
    execute replace(was, before,
        E'    if p_slot is not null and p_driven_by = \'engine\' then\n'
        '        -- What its schedule says, unless who starts it says otherwise.\n'
        '        select coalesce(p_queue, s.queue), coalesce(p_priority, nullif(s.priority, 0)), coalesce(p_tenant, s.tenant),\n'
        '               coalesce(p_limit_key, s.limit_key), coalesce(p_attributes, nullif(s.attributes, \'{}\'))\n'
        '          into p_queue, p_priority, p_tenant, p_limit_key, p_attributes\n'
        '          from (select) one left join lockgate.schedules s on s.name = p_schedule;\n'
        '    end if;\n' || before);
end $$;

create or replace view lockgate.v_schedules_next as
select s.name as schedule,
       s.workflow,
       s.cron,
       s.timezone,
       s.paused_at,
       s.last_slot,
       s.next_slot,
       case when s.paused_at is null and s.problem is null and isfinite(s.next_slot)
            then greatest(extract(epoch from statement_timestamp() - s.next_slot), 0)::float8 end as late_s,
       s.overlap,
       s.catch_up,
       s.problem,
       r.id as last_run,
       r.status as last_status,
       r.slot as last_run_slot,
       r.finished_at as last_finished_at,
       coalesce(s.queue, s.workflow) as queue,
       s.priority,
       s.tenant,
       s.limit_key,
       s.attributes
  from lockgate.schedules s
  left join lateral (
      select t.id, t.status, t.slot, t.finished_at from lockgate.task_runs t
       where t.schedule = s.name and t.slot is not null order by t.slot desc limit 1) r on true;
comment on column lockgate.v_schedules_next.queue is 'Queue from which its runs are claimed';
comment on column lockgate.v_schedules_next.priority is 'Its runs go before those of lower priority; null: 0';
comment on column lockgate.v_schedules_next.tenant is 'On whose behalf its runs are, for fair queues; null: nobody''s';
comment on column lockgate.v_schedules_next.limit_key is 'Key of the limits of their queue that hold for each key; null: none';
comment on column lockgate.v_schedules_next.attributes is 'By what its runs are found: an object of strings, numbers and booleans; null: nothing';

do $$
begin
    if exists (select 1 from pg_roles where rolname = 'lockgate_reader') then
        grant select (queue, priority, tenant, limit_key, attributes) on lockgate.schedules to lockgate_reader;
    end if;
end $$;
