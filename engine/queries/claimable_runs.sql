-- Runs that have a batch to claim this moment, oldest first and from behind one on, without those the caller would decline.
-- Their batches are what the version of their code sends: code of another would send something else. From open fan-outs: few
-- runs have any, however many are not over.
select r.id
  from (select distinct s.run_id
          from lockgate.run_steps s
         where s.kind = 'fan_out' and s.status = 'open') o
  join lockgate.task_runs r on r.id = o.run_id
 where r.status = 'running' and r.stop_status is null and r.driven_by = 'engine'
   and r.workflow || '@' || coalesce(r.code_version, 1) = any ($1)
   and r.id <> all ($2)
   and r.pace_next_at <= (select clock_timestamp()) + interval '2 seconds'
   and exists (
       select 1 from lockgate.run_batches b join lockgate.run_steps s on s.run_id = b.run_id and s.path = b.step
        where b.run_id = r.id and b.status in ('free', 'recoverable') and b.not_before <= (select clock_timestamp())
          and (s.planned_at is not null or not s.consistent))
 order by coalesce(r.id <= $4, false), r.id
 limit $3
