-- Pauses a queue; answers its state.
select to_jsonb(lockgate.pause_queue($1, coalesce($2, 'paused by an operator'), $3))
