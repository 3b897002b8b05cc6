-- What a claim whose answer was lost got, if it was granted and is still held. Found among what is held: a claim that
-- was granted is not finished before its holder hears of it.
select b.run_id, b.seq, b.claim_token, b.claim_id, b.step, b.first_id, b.last_id, b.n_items, i.ids, b.delivered_bits, b.attempts,
       r.pace_per_s, null::float8 as pace_wait_s
  from lockgate.run_batches b
  join lockgate.task_runs r on r.id = b.run_id
  left join lockgate.run_batch_ids i on i.run_id = b.run_id and i.seq = b.seq
 where b.run_id = $1 and b.claim_id = $2 and b.status = 'claimed'
