-- Pauses a run, or the one that goes on in its place; answers its state.
select to_jsonb(lockgate.pause_run($1, coalesce($2, 'paused by an operator'), $3))
