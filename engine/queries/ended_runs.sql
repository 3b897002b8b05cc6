-- Of these runs those that nothing more becomes of by itself, and how they ended; one that is not there has no state.
select asked.id, r.status, case when r.status = 'completed' then r.output end as output, r.reason,
       case when r.continued_as is not null then lockgate.last_run(r.id) end as continued_as
  from unnest($1::uuid[]) asked (id)
  left join lockgate.task_runs r on r.id = asked.id
 where r.id is null or r.finished_at is not null or r.status = 'quarantined'
