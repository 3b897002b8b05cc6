-- Stopping, pausing and resuming runs: one function each, shared by SQL, CLI and engine.
create function lockgate.settle_stop(p_run uuid) returns boolean
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

create function lockgate.acting_user(p_for text) returns text
language sql stable set search_path = pg_catalog, pg_temp as $$
    -- Nobody can act in another's name: whoever is logged in is always named, and first.
    select session_user || coalesce(' for ' || nullif(p_for, session_user::text), '')
$$;
comment on function lockgate.acting_user(text) is
    'Who acts, for the audit: the user that is logged in, and for whom when that is somebody else';

-- Operators may not write to tables; these three run as the owner and write down who called them.
create function lockgate.cancel_run(run uuid, reason text default 'cancelled by an operator', actor text default null)
returns text
language sql volatile security definer set search_path = pg_catalog, pg_temp as $$
    select lockgate.request_stop(run, 'cancelled', reason, lockgate.acting_user(actor))
$$;
comment on function lockgate.cancel_run(uuid, text, text) is
    'Cancels a run: nothing more of it is claimed, batches in flight stop at their next message and are handed back';

create function lockgate.pause_run(run uuid, reason text default 'paused by an operator', actor text default null)
returns text
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp as $$
declare
    was lockgate.task_runs;
begin
    select * into was from lockgate.task_runs r where r.id = run for no key update;
    if not found then return 'unknown'; end if;
    if was.status not in ('queued', 'running', 'suspended') or was.stop_status is not null then return was.status; end if;
    update lockgate.task_runs r set status = 'paused', reason = pause_run.reason where r.id = run;
    insert into lockgate.transitions (entity, run_id, from_status, to_status, actor, reason)
    values ('run', run, was.status, 'paused', lockgate.acting_user(pause_run.actor), pause_run.reason);
    perform pg_notify('lockgate_wake', 'stop');
    return 'paused';
end $$;
comment on function lockgate.pause_run(uuid, text, text) is
    'Pauses a run: nothing more of it is claimed until it is resumed; batches in flight are finished';

create function lockgate.resume_run(run uuid, actor text default null) returns text
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp as $$
declare
    was lockgate.task_runs;
    next_status text;
begin
    select * into was from lockgate.task_runs r where r.id = run for no key update;
    if not found then return 'unknown'; end if;
    if was.status not in ('paused', 'quarantined') then return was.status; end if;
    next_status := case when was.started_at is null then 'queued' else 'running' end;
    update lockgate.task_runs r
       set status = next_status, reason = null, attempts = 0, wake_seq = r.wake_seq + 1,
           wake_at = case r.driven_by when 'engine' then greatest(r.wake_at, clock_timestamp()) end
     where r.id = run;
    insert into lockgate.transitions (entity, run_id, from_status, to_status, actor, reason)
    values ('run', run, was.status, next_status, lockgate.acting_user(resume_run.actor), 'resumed');
    perform pg_notify('lockgate_wake', 'run');
    return next_status;
end $$;
comment on function lockgate.resume_run(uuid, text) is 'Resumes a paused or quarantined run';
