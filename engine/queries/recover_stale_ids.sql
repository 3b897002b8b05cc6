-- Leases that have ended by the database clock; tested again in the update, as a renewal may come between.
with stale as (
    select seq, claimed_by from lockgate.run_batches
     where run_id = $1 and status = 'claimed' and lease_until <= (select clock_timestamp())
     order by seq for no key update
), recovered as (
    update lockgate.run_batches b
       set status = 'recoverable', claim_id = null, claimed_by = null, lease_until = null,
           attempts = least(b.attempts + 1, 32767)
      from stale
     where b.run_id = $1 and b.seq = stale.seq and b.status = 'claimed' and b.lease_until <= clock_timestamp()
    returning b.seq, b.claim_token, stale.claimed_by
)
insert into lockgate.transitions (entity, run_id, batch_seq, from_status, to_status, token, replica, reason)
select 'batch', $1, seq, 'claimed', 'recoverable', claim_token, claimed_by, 'the lease ended' from recovered
