-- What this claim holds and has not offered to a server, handed back.
update lockgate_mail.sent_emails
   set state = 'queued', claim_id = null, lease_until = null, last_error = coalesce($3, last_error)
 where claim_id = $1 and id = any ($2)
