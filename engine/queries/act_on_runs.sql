-- Does something to a page of runs, or counts those to which it would be done.
select to_jsonb(a) from lockgate.act_on_runs($1, $2, $3, $4, $5, $6, $7, $8) a
