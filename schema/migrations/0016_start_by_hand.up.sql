-- Starting a run by hand, for whoever may act and may not write the table: the command line's `start`.
create function lockgate.start_by_hand(
    p_id uuid, p_workflow text, p_params bytea, p_singleton_key text, p_idempotency_key text, p_start_at timestamptz,
    p_pace_per_s integer, p_deadline interval, p_traceparent text, p_actor text,
    out outcome text, out run_id uuid)
language sql volatile security definer set search_path = pg_catalog, pg_temp as $$
    select s.outcome, s.run_id
      from lockgate.try_start_new_run(
          p_id => p_id, p_workflow => p_workflow, p_params => p_params, p_driven_by => 'engine',
          p_singleton_key => p_singleton_key, p_idempotency_key => p_idempotency_key, p_schedule => null, p_slot => null,
          p_wake_at => p_start_at, p_pace_per_s => p_pace_per_s, p_deadline => p_deadline, p_origin_id => null,
          p_traceparent => p_traceparent, p_leader_term => null, p_actor => lockgate.acting_user(p_actor)) s
$$;
comment on function lockgate.start_by_hand(uuid, text, bytea, text, text, timestamptz, integer, interval, text, text) is
    'Starts a run under an id made by the caller, so that asking again is safe; answers new, found, held or busy';

do $$
declare
    role text;
begin
    revoke all on function lockgate.start_by_hand(uuid, text, bytea, text, text, timestamptz, integer, interval, text, text)
        from public;
    for role in select rolname from pg_roles where rolname in ('lockgate_engine', 'lockgate_operator') loop
        execute format('grant execute on function lockgate.start_by_hand(uuid, text, bytea, text, text, timestamptz,
            integer, interval, text, text) to %I', role);
    end loop;
end $$;
