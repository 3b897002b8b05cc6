-- Open fan-outs of which nothing is unfinished: their last worker died before it could complete them. The lock is not
-- kept; asking for it leaves out runs that somebody has locked, which would hold up the others.
select s.run_id, s.path
  from lockgate.task_runs r
  join lockgate.run_steps s on s.run_id = r.id
 where r.status in ('running', 'suspended') and s.status = 'open' and s.planned_at is not null
   and not exists (select 1 from lockgate.run_batches b where b.run_id = s.run_id and b.status in ('free', 'recoverable'))
   and not exists (select 1 from lockgate.run_batches b where b.run_id = s.run_id and b.status = 'claimed')
 limit $1
   for no key update of r skip locked
