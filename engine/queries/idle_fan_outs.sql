-- Open fan-outs of which nothing is unfinished: their last worker died before it could complete them. The lock is not
-- kept; asking for it leaves out runs that somebody has locked, which would hold up the others.
select s.run_id, s.path
  from lockgate.run_steps s
  join lockgate.task_runs r on r.id = s.run_id
 where s.kind = 'fan_out' and s.status = 'open' and s.planned_at is not null and r.status in ('running', 'suspended')
   and not exists (select 1 from lockgate.run_batches b where b.run_id = s.run_id and b.status in ('free', 'recoverable'))
   and not exists (select 1 from lockgate.run_batches b where b.run_id = s.run_id and b.status = 'claimed')
 limit $1
   for no key update of r skip locked
