-- A page of failed e-mails behind an id, queued again by hand.
with failed as (
    select id from lockgate_mail.sent_emails
     where state = 'failed' and ($1::text is null or last_error = $1) and id > $3
     order by id
     limit $4
       for update skip locked
), queued as (
    update lockgate_mail.sent_emails s
       set state = 'queued', attempts = 0, first_attempt_at = null, next_attempt_at = clock_timestamp(),
           last_error = 'queued again: ' || $2
      from failed
     where s.id = failed.id
    returning s.id
)
select max(id), count(*) from queued
