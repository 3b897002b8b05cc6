-- Resumes a run; answers its state.
select to_jsonb(lockgate.resume_run($1, $2))
