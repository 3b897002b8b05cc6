-- Stale batches that have killed too many holders, the last one when it ran nothing else, with all that is needed to split them.
select b.run_id, b.seq, b.claim_token, b.step, b.first_id, b.last_id, b.n_items, i.ids, b.delivered_bits, r.origin_id
  from lockgate.run_batches b
  join lockgate.task_runs r on r.id = b.run_id
  left join lockgate.run_batch_ids i on i.run_id = b.run_id and i.seq = b.seq
 where b.status = 'claimed' and b.lease_until < (select clock_timestamp()) and b.attempts + 1 >= $1 and b.alone
   and b.step is not null
 order by b.run_id, b.seq
 limit $2
