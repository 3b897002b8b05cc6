-- What the dead held is over, as if their leases had been waited for, and so is leadership.
update lockgate.task_runs set lease_until = clock_timestamp() where claim_id is not null;
update lockgate.run_batches set lease_until = clock_timestamp() where status = 'claimed';
update lockgate.undelivered_messages set lease_until = clock_timestamp() where status = 'claimed';
update lockgate.outbox_lanes set lease_until = clock_timestamp() where claim_id is not null;
update lockgate.leader_lease set expires_at = clock_timestamp() where expires_at > clock_timestamp();
