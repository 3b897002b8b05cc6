-- What became of a claim whose answer was lost, or of a write that found nothing.
select claim_token, status from lockgate.run_batches
 where run_id = $1 and seq = $2 and claim_id = $3 and status in ('claimed', 'done')
