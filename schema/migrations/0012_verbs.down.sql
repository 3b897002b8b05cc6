comment on column lockgate.task_runs.claim_token is 'Grows with every claim of the run';
drop function lockgate.dissolve_batches(uuid, integer[], integer);
drop index lockgate.run_batches_made;
