-- What a run shows under a name, or the one that goes on in its place: its value, or nothing yet.
select coalesce((select jsonb_agg(v.value) from lockgate.shown(r.id, $2) v), '[]')
  from lockgate.task_runs r
 where r.id = lockgate.last_run($1)
