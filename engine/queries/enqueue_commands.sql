-- Writes a page of ready commands into the outbox, in the caller's transaction.
select lockgate.enqueue_commands($1, $2, $3, $4, $5, $6, $7)
