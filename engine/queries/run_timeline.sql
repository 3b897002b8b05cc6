-- A page of how a run went.
select to_jsonb(t) from lockgate.run_timeline($1, $2, $3, $4) t
