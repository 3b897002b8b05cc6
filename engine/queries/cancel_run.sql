-- Cancels a run, also without undoing what it did; answers its state.
select to_jsonb(lockgate.cancel_run($1, coalesce($2, 'cancelled by an operator'), $3, $4))
