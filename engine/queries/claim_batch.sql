-- Made and claimed at once. The token comes from the run's row, so it grows even when a number is used again.
with token as (
    update lockgate.task_runs set claim_token = claim_token + 1 where id = $1 returning claim_token
), made as (
    insert into lockgate.run_batches (run_id, seq, status, first_id, last_id, n_items, attempts,
        claim_token, claim_id, claimed_by, lease_until)
    select $1, $2, 'claimed', $3, $4, $5, $6, claim_token, $8, $9, clock_timestamp() + $10 from token
    returning seq, claim_token
), listed as (
    insert into lockgate.run_batch_ids (run_id, seq, ids)
    select $1, $2, $7 where $7::bytea is not null
), audit as (
    insert into lockgate.transitions (entity, run_id, batch_seq, to_status, token, replica)
    select 'batch', $1, seq, 'claimed', claim_token, $9 from made
)
select claim_token from made
