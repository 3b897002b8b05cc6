-- The batch of this number, and made batches whose range meets the range of the claim. The ids are looked up row by
-- row: a join would read those of the whole run.
select b.seq, b.status, b.step is not null as planned, b.first_id, b.last_id, b.n_items, b.claim_id, b.claim_token,
       b.attempts, b.not_before > clock_timestamp() as waits,
       (select i.ids from lockgate.run_batch_ids i where i.run_id = b.run_id and i.seq = b.seq) as ids
  from lockgate.run_batches b
 where b.run_id = $1 and b.seq = $2
union all
select b.seq, b.status, false, b.first_id, b.last_id, b.n_items, b.claim_id, b.claim_token, b.attempts, false,
       (select i.ids from lockgate.run_batch_ids i where i.run_id = b.run_id and i.seq = b.seq)
  from lockgate.run_batches b
 where b.run_id = $1 and b.seq <> $2 and b.step is null and b.status <> 'split'
   and b.last_id >= $3 and b.first_id <= $4
 order by seq
