-- Finishes a batch of which every item was delivered and claims the next, in one round trip. The finish is forced
-- to run first: a claim that locked rows before it could wait for a neighbour that waits for us. Of a paced run
-- nothing is claimed here, only by claim_next_batch: this statement runs once for every batch there is, and each
-- node of its plan costs.
with finished as (
    update lockgate.run_batches b
       set status = 'done', delivered = b.n_items, refused = 0, unknown = 0, skipped = 0, vanished = 0,
           delivered_bits = null, lease_until = null, attempts = 0, finished_at = clock_timestamp()
     where b.run_id = $5 and b.seq = $6 and b.claim_token = $7 and b.claim_id = $8 and b.status = 'claimed'
    returning b.run_id, b.seq, b.claim_token
), pick as (
    select b.run_id, b.seq, b.status as was
      from lockgate.run_batches b
     where b.run_id = $1 and b.status in ('free', 'recoverable') and b.not_before <= (select clock_timestamp())
       and (select count(*) from finished) = 1
       and exists (select 1 from lockgate.task_runs r
                    where r.id = $1 and r.status = 'running' and r.stop_status is null and r.pace_per_s is null)
       and exists (select 1 from lockgate.run_steps s
                    where s.run_id = b.run_id and s.path = b.step and (s.planned_at is not null or not s.consistent))
     order by b.not_before, b.seq
     limit 1
       for no key update of b skip locked
), claimed as (
    update lockgate.run_batches b
       set status = 'claimed', claim_token = b.claim_token + 1, claim_id = $2, claimed_by = $3, alone = false,
           lease_until = clock_timestamp() + make_interval(secs => $4)
      from pick
     where b.run_id = pick.run_id and b.seq = pick.seq
    returning b.run_id, b.seq, b.claim_token, b.claim_id, b.step, b.first_id, b.last_id, b.n_items, b.delivered_bits,
              b.attempts, pick.was
), audit as (
    insert into lockgate.transitions (entity, run_id, batch_seq, from_status, to_status, token, replica)
    select 'batch', run_id, seq, 'claimed', 'done', claim_token, $3 from finished
    union all
    select 'batch', run_id, seq, was, 'claimed', claim_token, $3 from claimed
)
select (select count(*) from finished) = 1 as finished, c.run_id, c.seq, c.claim_token, c.claim_id, c.step, c.first_id,
       c.last_id, c.n_items, i.ids, c.delivered_bits, c.attempts, null::integer as pace_per_s, null::float8 as pace_wait_s
  from (select 1) one
  left join claimed c on true
  left join lockgate.run_batch_ids i on i.run_id = c.run_id and i.seq = c.seq
