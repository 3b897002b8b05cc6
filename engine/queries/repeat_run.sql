-- Starts a run that begins with the steps of one that is over, or of the one that goes on in its place; answers new, found, or why not.
select to_jsonb(a) from lockgate.repeat_run($1, $2, $3, $4, $5, $6, $7, $8) a
