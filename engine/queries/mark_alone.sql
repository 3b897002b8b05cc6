-- The holder runs nothing else from here: if it dies, this batch is to blame.
update lockgate.run_batches
   set alone = true
 where run_id = $1 and seq = $2 and claim_token = $3 and claim_id = $4 and status = 'claimed'
