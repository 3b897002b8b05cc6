-- Resumes a run, or the one that goes on in its place; answers its state.
select to_jsonb(lockgate.resume_run($1, $3, coalesce($2, 'resumed')))
