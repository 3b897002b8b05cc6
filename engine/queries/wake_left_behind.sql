-- A page of runs of schedules that wait for others, behind a slot: those for which nobody is left to wait begin now, since
-- whoever ended that run died before it could wake them.
with page as (
    select f.schedule, f.slot, f.after_run, f.id
      from lockgate.task_runs f
     where (f.schedule, f.slot) > ($1, $2) and f.schedule is not null and f.finished_at is null
       and f.after_run is not null and f.wake_at is null and f.status = 'queued'
     order by f.schedule, f.slot
     limit $3
), left_behind as (
    select p.id
      from page p
     where lockgate.waited_for(p.after_run) is null
), woken as (
    update lockgate.task_runs f
       set wake_at = n.at, rank = n.at - f.priority * interval '15 seconds'
      from (select f.id from left_behind b join lockgate.task_runs f on f.id = b.id for no key update of f skip locked) b
     cross join (select clock_timestamp() as at) n
     where f.id = b.id and f.wake_at is null
    returning f.id
)
select p.schedule, p.slot, (select count(*) from page) as looked, (select count(*) from woken) as woken
  from page p
 order by p.schedule desc, p.slot desc
 limit 1
