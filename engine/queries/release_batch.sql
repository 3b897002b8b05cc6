-- Every item is delivered. The claim alone is tested, never the lease: slow is not dead until somebody took over.
with done as (
    update lockgate.run_batches
       set status = 'done', lease_until = null, delivered_bits = null, finished_at = clock_timestamp(),
           delivered = n_items, refused = 0, unknown = 0, skipped = 0, vanished = 0
     where run_id = $1 and seq = $2 and status = 'claimed' and claim_token = $3 and claim_id = $4
    returning seq, claim_token, claimed_by
), audit as (
    insert into lockgate.transitions (entity, run_id, batch_seq, from_status, to_status, token, replica)
    select 'batch', $1, seq, 'claimed', 'done', claim_token, claimed_by from done
)
select exists (select 1 from done)
