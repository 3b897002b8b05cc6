-- Gives up a page of commands of the outbox for good, or counts them.
select to_jsonb(c) from lockgate.discard_outbox($1, $2, $3, $4, $5, $6, $7, $8, $9) c
