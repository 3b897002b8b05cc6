-- What became of an e-mail that was offered, if this claim still holds it. One that is put off for too long has failed.
update lockgate_mail.sent_emails
   set state = case when $3 = 'queued' and first_attempt_at < clock_timestamp() - make_interval(secs => $6)
                    then 'failed' else $3 end,
       sent_at = case when $3 = 'sent' then clock_timestamp() end,
       attempts = attempts + 1,
       first_attempt_at = coalesce(first_attempt_at, clock_timestamp()),
       last_error = $4,
       next_attempt_at = clock_timestamp() + make_interval(secs => $5),
       claim_id = null,
       lease_until = null
 where id = $1 and claim_id = $2
returning state
