-- The batch of this number, and made batches whose range meets the range of the claim.
select b.seq, b.status, b.step is not null as planned, b.first_id, b.last_id, b.n_items, i.ids,
       b.claim_id, b.claim_token, b.attempts, b.not_before > clock_timestamp() as waits
  from lockgate.run_batches b left join lockgate.run_batch_ids i on i.run_id = b.run_id and i.seq = b.seq
 where b.run_id = $1 and b.seq = $2
union all
select b.seq, b.status, false, b.first_id, b.last_id, b.n_items, i.ids, b.claim_id, b.claim_token, b.attempts, false
  from lockgate.run_batches b left join lockgate.run_batch_ids i on i.run_id = b.run_id and i.seq = b.seq
 where b.run_id = $1 and b.seq <> $2 and b.step is null and b.status <> 'split'
   and b.last_id >= $3 and b.first_id <= $4
 order by seq
