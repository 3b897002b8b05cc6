-- Resumes a queue; answers its state.
select to_jsonb(lockgate.resume_queue($1, $2, $3))
