-- Children: runs that the code of other runs started, and runs that go on in the place of others.

alter table lockgate.task_runs add column detached boolean;
comment on column lockgate.task_runs.detached is 'It outlives the run that started it; null: it is cancelled when that is over';

-- ended_children, stop_children, children_to_look_after: the children of a run by the step that started them. Null for
-- everybody else's runs, which are not in it.
create index task_runs_children on lockgate.task_runs (parent_id, parent_path) where parent_id is not null;
-- children_to_look_after, stop_children: steps that wait for a child.
create index run_steps_children on lockgate.run_steps (run_id, path) where kind = 'child' and status = 'open';

create function lockgate.last_run(p_run uuid) returns uuid
language plpgsql stable set search_path = pg_catalog, pg_temp as $$
declare
    last uuid := p_run;
    next uuid;
begin
    loop
        select r.continued_as into next from lockgate.task_runs r where r.id = last;
        if next is null then return last; end if;
        last := next;
    end loop;
end $$;
comment on function lockgate.last_run(uuid) is 'The run itself, or the one that goes on in its place by now';

create function lockgate.wake_parent(p_run uuid) returns void
language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
declare
    parent uuid;
begin
    -- Whoever ends a child has its row locked, and others lock parents first: one that is locked is left to the sweep.
    select p.id into parent
      from lockgate.task_runs c
      join lockgate.task_runs p on p.id = c.parent_id
     where c.id = p_run and c.finished_at is not null
       for no key update of p skip locked;
    if not found then return; end if;
    perform lockgate.wake_run(parent);
    perform pg_notify('lockgate_wake', 'run');
end $$;
comment on function lockgate.wake_parent(uuid) is 'Wakes the run that started one that is over, unless its row is locked';

create function lockgate.stop_children(p_run uuid, p_page integer) returns bigint
language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
declare
    parent record;
    child uuid;
    came bigint := 0;
    dropped bigint := 0;
begin
    select r.finished_at is not null as is_over, coalesce(r.stop_reason, r.reason) as reason into parent
      from lockgate.task_runs r where r.id = p_run and (r.finished_at is not null or r.stop_status is not null);
    if not found then return 0; end if;
    -- What somebody has locked is left to the next call: a child's end and its parent's wait for nobody.
    for child in
        select c.id
          from lockgate.run_steps s
          join lockgate.task_runs c on c.parent_id = s.run_id and c.parent_path = s.path
         where s.run_id = p_run and s.kind = 'child' and s.status = 'open'
           and c.finished_at is null and c.stop_status is null and c.detached is null
         limit p_page
           for no key update of c skip locked
    loop
        perform lockgate.request_stop(child, 'cancelled',
            -- Of a whole tree the reason is that of its root.
            case when parent.reason like 'the run that started it %' then parent.reason
                 else 'the run that started it is ' || case when parent.is_over then 'over' else 'stopped' end
                      || coalesce(': ' || parent.reason, '') end, 'lockgate');
        came := came + 1;
    end loop;
    if parent.is_over then
        -- Nobody reads the results of these any more. One whose child is not asked to stop yet stays, and is found again.
        update lockgate.run_steps s
           set status = 'dropped', finished_at = clock_timestamp()
         where s.run_id = p_run
           and s.path in (
               select o.path from lockgate.run_steps o
                where o.run_id = p_run and o.kind = 'child' and o.status = 'open'
                  and not exists (
                      select from lockgate.task_runs c
                       where c.parent_id = o.run_id and c.parent_path = o.path
                         and c.finished_at is null and c.stop_status is null and c.detached is null)
                limit p_page);
        get diagnostics dropped = row_count;
    end if;
    return came + dropped;
end $$;
comment on function lockgate.stop_children(uuid, integer) is
    'Cancels a page of the children of a run that is over or asked to stop, but for detached ones; answers how many rows it changed';

-- The runs that go on in the place of others are meant too, and the children of what is cancelled.
create or replace function lockgate.cancel_run(
    run uuid, reason text default 'cancelled by an operator', actor text default null)
returns text
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp as $$
declare
    meant uuid := lockgate.last_run(run);
    state text := lockgate.request_stop(meant, 'cancelled', reason, lockgate.acting_user(actor));
begin
    -- A page of them at once; the sweep goes on with the rest, and with theirs.
    perform lockgate.stop_children(meant, 500);
    perform lockgate.wake_parent(meant);
    return state;
end $$;

create or replace function lockgate.signal_run(
    run uuid, name text, payload jsonb default 'null', idempotency_key text default null, actor text default null)
returns text
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp as $$
#variable_conflict use_column
declare
    meant uuid := signal_run.run;
    next uuid;
    was text;
    waiting bigint;
begin
    if coalesce(signal_run.name, '') = '' or octet_length(signal_run.name) > 100 then
        raise exception 'signal_run: a name has 1 to 100 bytes; nothing was sent' using errcode = 'invalid_parameter_value';
    end if;
    if octet_length(convert_to(coalesce(signal_run.payload, 'null')::text, 'UTF8')) > 65536 then
        raise exception 'signal_run: the payload is larger than 64 KiB; nothing was sent' using errcode = 'program_limit_exceeded';
    end if;
    loop
        -- The lock gives the signals of a run their order.
        select r.status, r.continued_as into was, next from lockgate.task_runs r where r.id = meant for no key update;
        if not found then return 'unknown'; end if;
        -- Known before over: who asks again because an answer was lost hears that it was sent.
        if signal_run.idempotency_key is not null then
            perform from lockgate.signals s
             where s.run_id = meant and s.idempotency_key = signal_run.idempotency_key;
            if found then return 'known'; end if;
        end if;
        exit when next is null;
        meant := next;
    end loop;
    if was in ('completed', 'failed', 'cancelled') then return was; end if;
    select count(*) into waiting
      from (select from lockgate.signals s where s.run_id = meant and s.consumed_by is null limit 1000) s;
    if waiting >= 1000 then return 'full'; end if;
    insert into lockgate.signals (run_id, seq, name, payload, idempotency_key, actor)
    select meant, coalesce(max(s.seq), 0) + 1, signal_run.name,
           convert_to(coalesce(signal_run.payload, 'null')::text, 'UTF8'), signal_run.idempotency_key,
           lockgate.acting_user(signal_run.actor)
      from lockgate.signals s where s.run_id = meant;
    perform lockgate.wake_run(meant);
    perform pg_notify('lockgate_wake', 'run');
    return 'sent';
end $$;

do $$
declare
    role text;
begin
    revoke all on function lockgate.last_run(uuid), lockgate.wake_parent(uuid), lockgate.stop_children(uuid, integer) from public;
    if exists (select 1 from pg_roles where rolname = 'lockgate_engine') then
        grant execute on function lockgate.wake_parent(uuid), lockgate.stop_children(uuid, integer) to lockgate_engine;
    end if;
    for role in select rolname from pg_roles
                 where rolname in ('lockgate_engine', 'lockgate_operator', 'lockgate_reader') loop
        execute format('grant execute on function lockgate.last_run(uuid) to %I', role);
    end loop;
    if exists (select 1 from pg_roles where rolname = 'lockgate_reader') then
        grant select (parent_id, parent_path, depth, detached, continued_as) on lockgate.task_runs to lockgate_reader;
    end if;
end $$;
