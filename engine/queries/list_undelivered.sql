-- Undelivered messages, newest first, without key, headers and payload.
select to_jsonb(l) from lockgate.list_undelivered($1, $2, $3, $4, $5, $6, $7, $8) l
