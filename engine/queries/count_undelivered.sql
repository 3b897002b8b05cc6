-- How many undelivered messages there are by state.
select to_jsonb(c) from lockgate.count_undelivered($1, $2, $3, $4, $5, $6) c
