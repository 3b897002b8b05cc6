-- Grants to the roles of schema/roles.sql that exist; a cluster without them works with its owner alone.
do $$
declare
    have text[] := array(select rolname from pg_roles where rolname like 'lockgate\_%');
begin
    revoke all on schema lockgate from public;
    revoke all on all tables in schema lockgate from public;
    revoke all on all functions in schema lockgate from public;
    if 'lockgate_engine' = any (have) then
        grant usage on schema lockgate to lockgate_engine;
        grant select, insert, update on all tables in schema lockgate to lockgate_engine;
        revoke update on lockgate.transitions from lockgate_engine;
        revoke insert, update on lockgate.migrations from lockgate_engine;
        grant execute on all functions in schema lockgate to lockgate_engine;
    end if;
    if 'lockgate_operator' = any (have) then
        grant usage on schema lockgate to lockgate_operator;
        grant select on lockgate.task_runs, lockgate.run_steps, lockgate.run_batches, lockgate.run_batch_ids,
            lockgate.transitions, lockgate.replicas, lockgate.leader_lease, lockgate.schedules, lockgate.v_run_proof,
            lockgate.migrations to lockgate_operator;
        -- Everything but key, headers and payload, which may hold personal data.
        grant select (command_type, id, message_id, run_id, step, batch_seq, item_id, status, reason_code, reason, topic,
            attempts, next_attempt_at, claimed_by, lease_until, last_error, kafka_partition, kafka_offset, actor, created_at,
            finished_at) on lockgate.undelivered_messages to lockgate_operator;
        grant execute on function lockgate.start_run(text, jsonb, text, text, timestamptz, integer, interval),
            lockgate.cancel_run(uuid, text, text), lockgate.pause_run(uuid, text, text), lockgate.resume_run(uuid, text),
            lockgate.decode_ids(bigint, bytea), lockgate.batch_items(uuid), lockgate.batch_exceptions(uuid),
            lockgate.batch_summary(lockgate.run_batches), lockgate.proof_problems(uuid) to lockgate_operator;
    end if;
    if 'lockgate_reader' = any (have) then
        grant usage on schema lockgate to lockgate_reader;
        grant select on lockgate.run_steps, lockgate.run_batches, lockgate.run_batch_ids, lockgate.transitions,
            lockgate.replicas, lockgate.leader_lease, lockgate.v_run_proof, lockgate.migrations to lockgate_reader;
        -- Inputs and payloads may hold personal data; the columns stay out.
        grant select (id, workflow, status, driven_by, origin_id, singleton_key, idempotency_key, schedule, slot, after_run, pace_per_s,
            pace_next_at, deadline_at, wake_at, claimed_by, lease_until, attempts, stop_status, stop_reason, stop_requested_at, reason,
            actor, created_at, started_at, finished_at) on lockgate.task_runs to lockgate_reader;
        grant select (command_type, id, message_id, run_id, step, batch_seq, item_id, status, reason_code, reason, topic,
            attempts, next_attempt_at, claimed_by, lease_until, last_error, kafka_partition, kafka_offset, actor, created_at,
            finished_at) on lockgate.undelivered_messages to lockgate_reader;
        grant select (name, workflow, cron, timezone, dst_gap, dst_fold, catch_up, catch_up_max, catch_up_window, overlap,
            jitter, pace_per_s, run_deadline, paused_at, last_slot, next_slot, active_from, problem, revision, created_at,
            updated_at) on lockgate.schedules to lockgate_reader;
        grant execute on function lockgate.decode_ids(bigint, bytea), lockgate.batch_items(uuid),
            lockgate.batch_exceptions(uuid), lockgate.batch_summary(lockgate.run_batches),
            lockgate.proof_problems(uuid) to lockgate_reader;
    end if;
end $$;
