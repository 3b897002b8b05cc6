drop function lockgate.stop_lost_children(uuid, text[]);
drop function lockgate.cut_fan_outs(uuid, text[]);
drop function lockgate.cancel_run(uuid, text, text, boolean);
drop function lockgate.request_stop(uuid, text, text, text, boolean);

create or replace function lockgate.settle_stop(p_run uuid) returns boolean
language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
begin
    perform from lockgate.task_runs
     where id = p_run and stop_status is not null and finished_at is null and claim_id is null
       for no key update;
    if not found then return false; end if;
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
        returning r.id, before.status as was, r.status, r.stop_reason
    )
    insert into lockgate.transitions (entity, run_id, from_status, to_status, reason)
    select 'run', id, was, status, stop_reason from over;
    return found;
end $$;
comment on function lockgate.settle_stop(uuid) is
    'Ends a run that was asked to stop once nothing of it is held; safe to call at any time, by anyone';

create function lockgate.request_stop(p_run uuid, p_status text, p_reason text, p_actor text) returns text
language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
declare
    was lockgate.task_runs;
begin
    select * into was from lockgate.task_runs where id = p_run for no key update;
    if not found then return 'unknown'; end if;
    if was.finished_at is not null then return was.status; end if;
    if was.stop_status is null then
        update lockgate.task_runs
           set stop_status = p_status, stop_reason = p_reason, stop_requested_at = clock_timestamp()
         where id = p_run;
        insert into lockgate.transitions (entity, run_id, from_status, to_status, actor, reason)
        values ('run', p_run, was.status, 'stopping', coalesce(p_actor, session_user::text), p_reason);
    end if;
    if lockgate.settle_stop(p_run) then
        select status into was.status from lockgate.task_runs where id = p_run;
        return was.status;
    end if;
    perform pg_notify('lockgate_wake', 'stop');
    return 'stopping';
end $$;
comment on function lockgate.request_stop(uuid, text, text, text) is
    'Asks a run to end as failed or cancelled; answers the state it is in now, stopping while batches are in flight, or unknown';

create function lockgate.cancel_run(run uuid, reason text default 'cancelled by an operator', actor text default null)
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
comment on function lockgate.cancel_run(uuid, text, text) is
    'Cancels a run: nothing more of it is claimed, batches in flight stop at their next message and are handed back';


drop function lockgate.not_undone(uuid);

do $$ begin
    revoke all on function lockgate.request_stop(uuid, text, text, text), lockgate.cancel_run(uuid, text, text) from public;
    if exists (select 1 from pg_roles where rolname = 'lockgate_engine') then
        grant execute on function lockgate.request_stop(uuid, text, text, text), lockgate.cancel_run(uuid, text, text)
            to lockgate_engine;
    end if;
    if exists (select 1 from pg_roles where rolname = 'lockgate_operator') then
        grant execute on function lockgate.cancel_run(uuid, text, text) to lockgate_operator;
    end if;
end $$;

comment on column lockgate.task_runs.undoing is 'It is being stopped, and its code undoes what it did first; null: not';
