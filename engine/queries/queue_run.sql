-- Makes a run wait until another is over, in no look's way meanwhile: whoever ends that one wakes it, as it is told to. Who ends
-- it in this moment waits for this. One whose row somebody has locked is not waited for: looks pass the run by until it is over.
with other as (
    select e.id
      from lockgate.task_runs e
     where e.id = lockgate.last_run($2) and e.finished_at is null
       for no key update skip locked
), awaited as (
    update lockgate.task_runs e set awaited = coalesce(e.awaited, 0) + 1 from other where e.id = other.id returning e.id
)
update lockgate.task_runs r
   set after_run = coalesce((select id from awaited), $2),
       wake_at = case when not exists (select from awaited) then r.wake_at end,
       rank = case when not exists (select from awaited) then r.rank end
 where r.id = $1
