-- Starts the runs of past slots that have none, or says which have none.
select to_jsonb(b) from lockgate.backfill_schedule($1, $2, $3, $4, $5, range => tstzrange($6, $7)) b
