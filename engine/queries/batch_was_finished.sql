-- Whether this very claim finished its batch: its answer may have been lost.
select exists (select 1 from lockgate.run_batches b
                where b.run_id = $1 and b.seq = $2 and b.claim_token = $3 and b.claim_id = $4 and b.status = 'done')
