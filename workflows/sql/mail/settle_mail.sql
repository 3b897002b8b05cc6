-- What became of an e-mail, if this claim still holds it.
update lockgate_mail.sent_emails
   set state = $3,
       sent_at = case when $3 = 'sent' then clock_timestamp() end,
       attempts = attempts + $4,
       last_error = $5,
       next_attempt_at = clock_timestamp() + make_interval(secs => $6),
       claim_id = null,
       lease_until = null
 where id = $1 and claim_id = $2
