-- Wakes runs after the waker's own commit; in order of ids, so that two wakers cannot wait for each other. What is queued
-- keeps its time and what is paused its rest: they find what is new when they run.
with woken as (
    select id from lockgate.task_runs where id = any ($1) and finished_at is null order by id for no key update
)
update lockgate.task_runs r
   set wake_seq = r.wake_seq + 1,
       wake_at = case when n.wakes then n.at else r.wake_at end,
       rank = case when n.wakes then n.at - r.priority * interval '15 seconds' else r.rank end
  from woken
 cross join lateral (
     select clock_timestamp() as at, w.status in ('running', 'suspended') and w.driven_by = 'engine' as wakes
       from lockgate.task_runs w where w.id = woken.id) n
 where r.id = woken.id
