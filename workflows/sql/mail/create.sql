-- The e-mails of email-sender. Made by it where they are missing, never by a migration: they are its own.
-- What is there already is no news.
set local client_min_messages = warning;
-- Where somebody made it for us we need no right to make one; `if not exists` would ask for that all the same.
do $$ begin
    if to_regnamespace('lockgate_mail') is null then
        create schema lockgate_mail;
    end if;
end $$;
create table if not exists lockgate_mail.sent_emails (
    id bigint generated always as identity primary key,
    message_id uuid not null unique,
    recipient text not null,
    template text not null,
    locale text not null,
    subject text not null,
    body text not null,
    correlation_id text not null,
    traceparent text,
    state text not null check (state in ('recorded', 'queued', 'sending', 'sent', 'failed')),
    attempts integer not null default 0,
    first_attempt_at timestamptz,
    next_attempt_at timestamptz not null default clock_timestamp(),
    claim_id uuid,
    lease_until timestamptz,
    last_error text,
    created_at timestamptz not null default clock_timestamp(),
    sent_at timestamptz,
    check ((state = 'sending') = (claim_id is not null)),
    check ((state = 'sending') = (lease_until is not null)),
    check ((state = 'sent') = (sent_at is not null))
);
-- A table made by a build of before the release lacks it, and without it no mark would ever be written.
alter table lockgate_mail.sent_emails add column if not exists first_attempt_at timestamptz;
alter table lockgate_mail.sent_emails add column if not exists traceparent text;
-- claim_mails: what is due, oldest first.
create index if not exists sent_emails_due on lockgate_mail.sent_emails (next_attempt_at) where state = 'queued';
-- recover_mails: what is held.
create index if not exists sent_emails_sending on lockgate_mail.sent_emails (lease_until) where state = 'sending';
-- prune_mails: the oldest first.
create index if not exists sent_emails_by_age on lockgate_mail.sent_emails (created_at);

comment on table lockgate_mail.sent_emails is 'One e-mail for each message; recorded: there was no server to send it';
comment on column lockgate_mail.sent_emails.id is 'In the order in which they were taken';
comment on column lockgate_mail.sent_emails.message_id is 'The message it was made of';
comment on column lockgate_mail.sent_emails.recipient is 'Address';
comment on column lockgate_mail.sent_emails.template is 'Template it was made from';
comment on column lockgate_mail.sent_emails.locale is 'Locale of the template that was found';
comment on column lockgate_mail.sent_emails.subject is 'Subject as it is sent';
comment on column lockgate_mail.sent_emails.body is 'Text as it is sent';
comment on column lockgate_mail.sent_emails.correlation_id is 'Correlates it with what caused it';
comment on column lockgate_mail.sent_emails.traceparent is 'Trace context of the message, as W3C writes it';
comment on column lockgate_mail.sent_emails.state is 'recorded, queued, sending, sent or failed';
comment on column lockgate_mail.sent_emails.attempts is 'How often it was offered to a server, or may have been';
comment on column lockgate_mail.sent_emails.first_attempt_at is 'When it was first offered, since it was queued';
comment on column lockgate_mail.sent_emails.next_attempt_at is 'When it is tried next';
comment on column lockgate_mail.sent_emails.claim_id is 'Claim under which it is being sent';
comment on column lockgate_mail.sent_emails.lease_until is 'When that claim ends';
comment on column lockgate_mail.sent_emails.last_error is 'What the last attempt met, without personal data';
comment on column lockgate_mail.sent_emails.created_at is 'When it was made';
comment on column lockgate_mail.sent_emails.sent_at is 'When the server had taken it';
