-- E-mails whose sender is gone or could not mark them. The server may have taken them or not, so that it counts as an
-- attempt and the next one waits, as after an answer of "later": should marks never be possible, copies get rare.
update lockgate_mail.sent_emails
   set state = 'queued', claim_id = null, lease_until = null, last_error = 'its sender was gone',
       attempts = attempts + 1,
       first_attempt_at = coalesce(first_attempt_at, clock_timestamp()),
       next_attempt_at = clock_timestamp() + make_interval(secs => least(power(2, least(attempts, 16)), 3600))
 where state = 'sending' and lease_until < (select clock_timestamp())
