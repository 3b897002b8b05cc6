-- A page of e-mails that are over and old: they are personal data.
delete from lockgate_mail.sent_emails where id in
    (select id from lockgate_mail.sent_emails
      where created_at < (select clock_timestamp()) - make_interval(secs => $1) and state in ('recorded', 'sent', 'failed')
      order by created_at limit $2 for update skip locked)
