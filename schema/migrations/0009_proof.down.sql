drop function lockgate.proof_problems(uuid);
drop function lockgate.batch_exceptions(uuid);
drop function lockgate.batch_summary(lockgate.run_batches);
drop view lockgate.v_run_proof;
