-- A page of due e-mails, oldest first, for this claim.
with due as (
    select id from lockgate_mail.sent_emails
     where state = 'queued' and next_attempt_at <= (select clock_timestamp())
     order by next_attempt_at
     limit $3
       for update skip locked
)
update lockgate_mail.sent_emails s
   set state = 'sending', claim_id = $1, lease_until = clock_timestamp() + make_interval(secs => $2)
  from due
 where s.id = due.id
returning s.id, s.message_id, s.recipient, s.subject, s.body, s.attempts, s.traceparent
