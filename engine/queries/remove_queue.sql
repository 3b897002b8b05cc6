-- Takes the settings of a queue away; answers what became of it.
select to_jsonb(lockgate.remove_queue($1, $2, $3))
