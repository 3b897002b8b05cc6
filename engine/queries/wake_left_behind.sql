-- A page of runs that others wait for, behind one, and how many wait: those that are over wake them now, since whoever ended
-- such a run died before it could.
with page as (
    select f.after_run
      from lockgate.task_runs f
     where f.after_run > $1 and f.after_run is not null and f.wake_at is null and f.status = 'queued'
     order by f.after_run
     limit $2
)
select p.after_run as run, p.waiting,
       case when not exists (select from lockgate.task_runs r where r.id = p.after_run and r.finished_at is null)
            then lockgate.wake_behind(p.after_run) else 0 end as woken
  from (select after_run, count(*) as waiting from page group by after_run) p
 order by p.after_run
