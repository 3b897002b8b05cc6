-- E-mails whose sender is gone; the server may have taken them or not.
update lockgate_mail.sent_emails
   set state = 'queued', claim_id = null, lease_until = null, last_error = 'its sender was gone'
 where state = 'sending' and lease_until < (select clock_timestamp())
