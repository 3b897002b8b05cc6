-- Moves a page of commands out of the outbox to the undelivered messages, or counts them.
select to_jsonb(c) from lockgate.move_outbox($1, $2, $3, $4, $5, $6, $7, $10, $8, $9) c
