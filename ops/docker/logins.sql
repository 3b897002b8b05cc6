-- What `lockgate migrate roles` leaves to an administrator. Runs at each start and is the same each time. Everybody who reads
-- this knows the passwords.
alter role lockgate_migrator password 'lockgate';
alter role lockgate_engine password 'lockgate';
alter role lockgate_reader password 'lockgate';
-- The migrator becomes the owner, who makes the schema.
do $$ begin
    execute format('grant create on database %I to lockgate_owner', current_database());
end $$;
-- email-sender logs in as the replicas do, who may make no schema. One that it made as somebody else becomes theirs.
create schema if not exists lockgate_mail authorization lockgate_engine;
alter schema lockgate_mail owner to lockgate_engine;
alter table if exists lockgate_mail.sent_emails owner to lockgate_engine;
