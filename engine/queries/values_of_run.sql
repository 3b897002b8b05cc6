-- What a run was given, and what it returned, or the one that goes on in its place; as the bytes that they are.
select r.params,
       (select l.output from lockgate.task_runs l where l.id = lockgate.last_run(r.id) and l.status = 'completed') as output
  from lockgate.task_runs r
 where r.id = $1
