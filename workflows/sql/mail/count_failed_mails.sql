-- How many e-mails have failed, by what their last attempt met.
select coalesce(last_error, ''), count(*)
  from lockgate_mail.sent_emails
 where state = 'failed' and ($1::text is null or last_error = $1)
 group by 1 order by 2 desc, 1
