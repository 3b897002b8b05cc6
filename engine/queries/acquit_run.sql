-- It goes on beside others: its holder has lived with it. Deaths in a row are counted on, since what kills slowly kills too.
update lockgate.task_runs
   set alone = null
 where id = $1 and claim_token = $2 and claim_id = $3
