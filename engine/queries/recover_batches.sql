-- Takes batches from holders whose lease has ended; the test of the clock is in the update itself. A batch that
-- was one of many in flight is not blamed beyond suspicion; one that killed its holder alone is left for split_batch.
with stale as (
    select b.run_id, b.seq
      from lockgate.run_batches b
     where b.status = 'claimed' and b.lease_until < (select clock_timestamp())
       and (b.attempts + 1 < $1 or not b.alone or b.step is null)
     order by b.run_id, b.seq
     limit $2
       for no key update skip locked
), recovered as (
    update lockgate.run_batches b
       set status = 'recoverable', claim_id = null, claimed_by = null, lease_until = null, alone = false,
           attempts = case when b.step is null then b.attempts + 1 else least(b.attempts + 1, greatest($1 - 1, 1)) end
      from stale, lockgate.run_batches was
     where b.run_id = stale.run_id and b.seq = stale.seq and was.run_id = b.run_id and was.seq = b.seq
       and b.status = 'claimed' and b.lease_until < clock_timestamp()
    returning b.run_id, b.seq, b.claim_token, was.claimed_by
)
insert into lockgate.transitions (entity, run_id, batch_seq, from_status, to_status, token, replica, reason)
select 'batch', run_id, seq, 'claimed', 'recoverable', claim_token, claimed_by, 'lease ended' from recovered
