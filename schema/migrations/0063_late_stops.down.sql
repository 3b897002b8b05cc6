create or replace function lockgate.act_on_run(p_act text, p_run uuid, p_reason text, p_actor text) returns text
language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
begin
    return case p_act
        -- Their children the sweep stops: a page holds no more locks than it has runs.
        when 'cancel' then lockgate.request_stop(lockgate.last_run(p_run), 'cancelled',
            coalesce(p_reason, 'cancelled by an operator'), lockgate.acting_user(p_actor))
        when 'pause' then lockgate.pause_run(p_run, coalesce(p_reason, 'paused by an operator'), p_actor)
        when 'resume' then lockgate.resume_run(p_run, p_actor)
        when 'delete' then lockgate.delete_run(p_run, p_reason, p_actor)
        when 'retry' then (select case a.outcome when 'new' then 'retried' else a.outcome end
            from lockgate.repeat_run(lockgate.new_id(), p_run, 'retry', null, null, true, p_reason, p_actor) a) end;
end $$;

create or replace function lockgate.cancel_run(run uuid, reason text default 'cancelled by an operator', actor text default null,
    force boolean default false)
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

drop function lockgate.stop_last_run(uuid, text, text, boolean);
