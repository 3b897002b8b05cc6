-- Open fan-outs of which nothing is unfinished: their last worker died before it could complete them. The lock is not
-- kept; asking for it leaves out runs that somebody has locked, which would hold up the others.
select s.run_id, s.path
  from lockgate.run_steps s
  join lockgate.task_runs r on r.id = s.run_id
 where s.kind = 'fan_out' and s.status = 'open' and s.planned_at is not null and r.status in ('running', 'suspended')
   -- Of this fan-out: another of the run may have batches for hours. In the order of run_batches_waiting, as where one is completed.
   and (select b.seq from lockgate.run_batches b
         where b.run_id = s.run_id and b.step = s.path and b.status in ('free', 'recoverable')
         order by b.not_before, b.seq
         limit 1) is null
   and not exists (select 1 from lockgate.run_batches b
                    where b.run_id = s.run_id and b.step = s.path and b.status = 'claimed')
 limit $1
   for no key update of r skip locked
