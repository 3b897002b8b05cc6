-- A page of new e-mails. That none of them is there already is for the inbox to see to; if it were, this must fail.
insert into lockgate_mail.sent_emails (message_id, recipient, template, locale, subject, body, correlation_id,
                                       traceparent, state)
select m.*, $9
  from unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[],
              $8::text[]) as m
