-- Guarded, because replicas claim planned batches without the run's lock.
with before as (
    select seq, status from lockgate.run_batches
     where run_id = $1 and seq = $2 and status in ('free', 'recoverable') and not_before <= clock_timestamp()
       for no key update
), claimed as (
    update lockgate.run_batches b
       set status = 'claimed', claim_token = b.claim_token + 1, claim_id = $3, claimed_by = $4,
           lease_until = clock_timestamp() + $5
      from before where b.run_id = $1 and b.seq = before.seq
    returning b.seq, b.claim_token, before.status as was
), audit as (
    insert into lockgate.transitions (entity, run_id, batch_seq, from_status, to_status, token, replica)
    select 'batch', $1, seq, was, 'claimed', claim_token, $4 from claimed
)
select claim_token from claimed
