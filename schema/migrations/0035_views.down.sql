drop view lockgate.v_acts;
drop view lockgate.v_failures;
drop view lockgate.v_queue_holders;
drop view lockgate.v_queue_health;
drop view lockgate.v_schedules_next;
drop view lockgate.v_terms;
drop view lockgate.v_leader;
drop view lockgate.v_replicas;
drop view lockgate.v_batches;
drop view lockgate.v_run_progress;
drop view lockgate.v_steps;
drop view lockgate.v_runs_held;
drop view lockgate.v_runs;

do $$
declare
    role text;
begin
    for role in select rolname from pg_roles where rolname in ('lockgate_engine', 'lockgate_operator', 'lockgate_reader') loop
        execute format('revoke execute on function lockgate.first_id_at(timestamptz) from %I', role);
    end loop;
end $$;
