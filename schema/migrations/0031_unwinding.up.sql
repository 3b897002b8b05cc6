-- Runs that are to stop undo what they did first, and fan-outs may lose a select.

comment on column lockgate.task_runs.undoing is
    'Of a run that is to stop: true, its code undoes what it did first; false, that is done or waived; null: not decided, or it is not to stop';

create function lockgate.not_undone(p_run uuid) returns text[]
language sql stable set search_path = pg_catalog, pg_temp as $$
    select coalesce(array_agg(s.path order by s.finished_at desc nulls first, s.path), '{}')
      from lockgate.run_steps s
     where s.run_id = p_run and s.kind = 'undoable'
       and not exists (select from lockgate.run_steps u
                        where u.run_id = p_run and u.path = 'undo/' || s.path and u.status = 'completed')
$$;
comment on function lockgate.not_undone(uuid) is
    'Steps of a run that can be undone, that were begun, and that are not undone; the last one first';

create or replace function lockgate.settle_stop(p_run uuid) returns boolean
language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
declare
    was lockgate.task_runs;
begin
    select * into was from lockgate.task_runs
     where id = p_run and stop_status is not null and finished_at is null and claim_id is null
       for no key update;
    if not found or was.undoing then return false; end if;
    if was.undoing is null and lockgate.not_undone(p_run) <> '{}' then
        -- Whoever has its code runs it, and nothing new of it begins.
        update lockgate.task_runs r
           set undoing = true, wake_seq = r.wake_seq + 1, wake_at = n.at, rank = n.at - r.priority * interval '15 seconds',
               status = case when r.status in ('paused', 'quarantined') then 'running' else r.status end
          from (select clock_timestamp() as at) n
         where r.id = p_run;
        insert into lockgate.transitions (entity, run_id, from_status, to_status, reason)
        values ('run', p_run, was.status, 'undoing', was.stop_reason);
        perform pg_notify('lockgate_wake', 'run');
        return false;
    end if;
    -- Claims do not lock the run, and one whose snapshot is older than the stop still sees a run to work on. It takes its
    -- batch before this, which then waits for it and sees it held below; or it waits for this and finds the batch far off.
    update lockgate.run_batches
       set not_before = not_before + interval '100 years'
     where run_id = p_run and status in ('free', 'recoverable')
       and not_before < clock_timestamp() + interval '50 years';
    -- Asked to stop, its code is not running and no batch of it is held: it is over.
    with before as (
        select id, status from lockgate.task_runs
         where id = p_run and stop_status is not null and finished_at is null and claim_id is null
           and not exists (select 1 from lockgate.run_batches b where b.run_id = p_run and b.status = 'claimed')
           for no key update
    ), over as (
        update lockgate.task_runs r
           set status = r.stop_status, reason = r.stop_reason, finished_at = clock_timestamp(), wake_at = null
          from before where r.id = before.id
        returning r.id, before.status as came_from, r.status, r.stop_reason
    )
    insert into lockgate.transitions (entity, run_id, from_status, to_status, reason)
    select 'run', id, came_from, status, stop_reason from over;
    if not found then return false; end if;
    perform lockgate.wake_parent(p_run);
    return true;
end $$;
comment on function lockgate.settle_stop(uuid) is
    'Ends a run that was asked to stop once nothing of it is held and what it did is undone; safe to call at any time, by anyone';

drop function lockgate.request_stop(uuid, text, text, text);
create function lockgate.request_stop(
    p_run uuid, p_status text, p_reason text, p_actor text, p_force boolean default false) returns text
language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
declare
    was lockgate.task_runs;
    waived text[] := '{}';
    why text := p_reason;
begin
    select * into was from lockgate.task_runs where id = p_run for no key update;
    if not found then return 'unknown'; end if;
    if was.finished_at is not null then return was.status; end if;
    if p_force and was.undoing is distinct from false then
        waived := lockgate.not_undone(p_run);
        -- Whoever reads how it ended reads what of it still stands.
        if waived <> '{}' then
            why := p_reason || '; by force, not undone: ' || array_to_string(waived[1:10], ', ')
                   || case when cardinality(waived) > 10 then ' and ' || cardinality(waived) - 10 || ' more' else '' end;
        end if;
    end if;
    if was.stop_status is null or (p_force and was.undoing is distinct from false) then
        update lockgate.task_runs
           set stop_status = coalesce(was.stop_status, p_status), stop_reason = why,
               stop_requested_at = coalesce(was.stop_requested_at, clock_timestamp()),
               undoing = case when p_force then false else was.undoing end
         where id = p_run;
        insert into lockgate.transitions (entity, run_id, from_status, to_status, actor, reason)
        values ('run', p_run, was.status, 'stopping', coalesce(p_actor, session_user::text), why);
    end if;
    if lockgate.settle_stop(p_run) then
        select status into was.status from lockgate.task_runs where id = p_run;
        return was.status;
    end if;
    perform pg_notify('lockgate_wake', 'stop');
    return 'stopping';
end $$;
comment on function lockgate.request_stop(uuid, text, text, text, boolean) is
    'Asks a run to end as failed or cancelled, undoing what it did first unless forced; answers the state it is in now, stopping while anything of it is held or undone, or unknown';

drop function lockgate.cancel_run(uuid, text, text);
create function lockgate.cancel_run(
    run uuid, reason text default 'cancelled by an operator', actor text default null, force boolean default false)
returns text
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp as $$
declare
    meant uuid := lockgate.last_run(run);
    state text := lockgate.request_stop(meant, 'cancelled', reason, lockgate.acting_user(actor), force);
begin
    -- A page of them at once; the sweep goes on with the rest, and with theirs.
    perform lockgate.stop_children(meant, 500);
    perform lockgate.wake_parent(meant);
    return state;
end $$;
comment on function lockgate.cancel_run(uuid, text, text, boolean) is
    'Cancels a run: nothing new of it begins, batches in flight stop at their next message and are handed back, and what it did is undone by its code, unless forced';

-- Deletes rows, so with the owner's rights: only what nobody has ever held, and of no run that is over.
create function lockgate.cut_fan_outs(p_run uuid, p_lost text[]) returns integer
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp as $$
declare
    fan_out text;
    items bigint;
    batches integer;
    cut integer := 0;
begin
    for fan_out in
        select s.path from lockgate.run_steps s
         where s.run_id = p_run and s.kind = 'fan_out' and s.status = 'open'
           and exists (select from unnest(p_lost) l (prefix) where starts_with(s.path, l.prefix))
           for no key update
    loop
        -- Their lists of ids go with them.
        with gone as (
            delete from lockgate.run_batches b
             where b.run_id = p_run and b.step = fan_out and b.status = 'free' and b.claim_token = 0 and b.parent_seq is null
            returning b.n_items
        )
        select coalesce(sum(n_items), 0), count(*) into items, batches from gone;
        update lockgate.run_steps s
           set planned_at = coalesce(s.planned_at, clock_timestamp()), plan_trouble = null,
               planned_items = s.planned_items - items, planned_batches = s.planned_batches - batches
         where s.run_id = p_run and s.path = fan_out;
        cut := cut + 1;
    end loop;
    return cut;
end $$;
comment on function lockgate.cut_fan_outs(uuid, text[]) is
    'Cuts the open fan-outs under these prefixes short to the batches that were ever claimed; answers how many';

create function lockgate.stop_lost_children(p_run uuid, p_lost text[]) returns integer
language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
declare
    child uuid;
    stopped integer := 0;
begin
    -- What somebody has locked is left for the end of this run: its step stays open. Two that wait for each other are worse.
    for child in
        select c.id
          from lockgate.run_steps s
          join lockgate.task_runs c on c.parent_id = s.run_id and c.parent_path = s.path
         where s.run_id = p_run and s.kind = 'child' and s.status = 'open'
           and exists (select from unnest(p_lost) l (prefix) where starts_with(s.path, l.prefix))
           and c.finished_at is null and c.stop_status is null and c.detached is null
           for no key update of c skip locked
    loop
        perform lockgate.request_stop(child, 'cancelled', 'the branch that started it lost a select', 'lockgate');
        stopped := stopped + 1;
    end loop;
    update lockgate.run_steps s
       set status = 'dropped', finished_at = clock_timestamp()
     where s.run_id = p_run and s.kind = 'child' and s.status = 'open'
       and exists (select from unnest(p_lost) l (prefix) where starts_with(s.path, l.prefix))
       and not exists (
           select from lockgate.task_runs c
            where c.parent_id = s.run_id and c.parent_path = s.path
              and c.finished_at is null and c.stop_status is null and c.detached is null);
    return stopped;
end $$;
comment on function lockgate.stop_lost_children(uuid, text[]) is
    'Cancels the children that steps under these prefixes started, but for detached ones, and drops the steps; answers how many';

do $$ begin
    revoke all on function lockgate.not_undone(uuid), lockgate.request_stop(uuid, text, text, text, boolean),
        lockgate.cancel_run(uuid, text, text, boolean), lockgate.cut_fan_outs(uuid, text[]),
        lockgate.stop_lost_children(uuid, text[]) from public;
    if exists (select 1 from pg_roles where rolname = 'lockgate_engine') then
        grant execute on function lockgate.not_undone(uuid), lockgate.request_stop(uuid, text, text, text, boolean),
            lockgate.cancel_run(uuid, text, text, boolean), lockgate.cut_fan_outs(uuid, text[]),
            lockgate.stop_lost_children(uuid, text[]) to lockgate_engine;
    end if;
    if exists (select 1 from pg_roles where rolname = 'lockgate_operator') then
        grant execute on function lockgate.cancel_run(uuid, text, text, boolean) to lockgate_operator;
    end if;
    if exists (select 1 from pg_roles where rolname = 'lockgate_reader') then
        grant select (undoing) on lockgate.task_runs to lockgate_reader;
    end if;
end $$;
