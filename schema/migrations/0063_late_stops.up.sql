-- A run that goes on as another while somebody waits for its row to cancel it: the one that goes on is cancelled.

create function lockgate.stop_last_run(p_run uuid, p_reason text, p_actor text, p_force boolean, out meant uuid, out state text)
language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
declare
    last uuid := lockgate.last_run(p_run);
begin
    loop
        meant := last;
        state := lockgate.request_stop(meant, 'cancelled', p_reason, p_actor, p_force);
        -- Its row is locked now, unless it was over: then another may have taken its place while this waited for it.
        last := lockgate.last_run(meant);
        exit when last = meant;
    end loop;
end $$;
comment on function lockgate.stop_last_run(uuid, text, text, boolean) is
    'Asks a run to stop, or the one that goes on in its place when it is asked; answers which, and its state';
revoke all on function lockgate.stop_last_run(uuid, text, text, boolean) from public;

create or replace function lockgate.cancel_run(run uuid, reason text default 'cancelled by an operator', actor text default null,
    force boolean default false)
returns text
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp as $$
declare
    stopped record;
begin
    select * into stopped from lockgate.stop_last_run(run, reason, lockgate.acting_user(actor), force);
    -- A page of them at once; the sweep goes on with the rest, and with theirs.
    perform lockgate.stop_children(stopped.meant, 500);
    perform lockgate.wake_parent(stopped.meant);
    return stopped.state;
end $$;

create or replace function lockgate.act_on_run(p_act text, p_run uuid, p_reason text, p_actor text) returns text
language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
begin
    return case p_act
        -- Their children the sweep stops: a page holds no more locks than it has runs.
        when 'cancel' then (select s.state from lockgate.stop_last_run(p_run,
            coalesce(p_reason, 'cancelled by an operator'), lockgate.acting_user(p_actor), false) s)
        when 'pause' then lockgate.pause_run(p_run, coalesce(p_reason, 'paused by an operator'), p_actor)
        when 'resume' then lockgate.resume_run(p_run, p_actor)
        when 'delete' then lockgate.delete_run(p_run, p_reason, p_actor)
        when 'retry' then (select case a.outcome when 'new' then 'retried' else a.outcome end
            from lockgate.repeat_run(lockgate.new_id(), p_run, 'retry', null, null, true, p_reason, p_actor) a) end;
end $$;
