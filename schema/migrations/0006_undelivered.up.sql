-- What Kafka did not take. One partition per command type that has its own; the rest shares one.
create table lockgate.undelivered_messages (
    command_type text not null check (command_type <> ''),
    id uuid not null,
    message_id uuid not null,
    run_id uuid,
    step text,
    batch_seq integer,
    item_id bigint,
    status text not null check (status in ('due', 'refused', 'claimed', 'delivered', 'dead', 'discarded')),
    reason_code text not null,
    reason text not null,
    topic text not null,
    key bytea,
    headers jsonb not null default '[]',
    payload bytea,
    attempts integer not null default 0,
    next_attempt_at timestamptz not null default clock_timestamp(),
    claim_token bigint not null default 0,
    claim_id uuid,
    claimed_by uuid,
    lease_until timestamptz,
    last_error text,
    kafka_partition integer,
    kafka_offset bigint,
    actor text,
    created_at timestamptz not null default clock_timestamp(),
    finished_at timestamptz,
    primary key (command_type, id),
    check ((status = 'claimed') = (lease_until is not null)),
    check (status <> 'delivered' or (kafka_partition is not null and kafka_offset is not null)),
    check ((status in ('delivered', 'discarded')) = (finished_at is not null))
) partition by list (command_type);

create table lockgate.undelivered_email_commands
    partition of lockgate.undelivered_messages for values in ('email')
    with (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_threshold = 200);
create table lockgate.undelivered_other_commands
    partition of lockgate.undelivered_messages default
    with (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_threshold = 200);

-- A message of a run is stored once, however often its batch is finished by a retry.
create unique index undelivered_once_per_run on lockgate.undelivered_messages (command_type, run_id, message_id)
    where run_id is not null;
create unique index undelivered_once_direct on lockgate.undelivered_messages (command_type, message_id)
    where run_id is null;
-- claim_undelivered: what is due, oldest first.
create index undelivered_due on lockgate.undelivered_messages (next_attempt_at) where status = 'due';
-- recover_undelivered: what is held.
create index undelivered_claimed on lockgate.undelivered_messages (command_type, id) where status = 'claimed';
-- The proof and undelivered list --run.
create index undelivered_by_run on lockgate.undelivered_messages (run_id, batch_seq) where run_id is not null;
-- undelivered list: newest first, by state.
create index undelivered_by_status on lockgate.undelivered_messages (status, created_at);

comment on table lockgate.undelivered_messages is 'Messages that Kafka refused or may not have taken, with all that is needed to send them again';
comment on table lockgate.undelivered_email_commands is 'The e-mail commands among the undelivered messages';
comment on table lockgate.undelivered_other_commands is 'All other command types';
comment on column lockgate.undelivered_messages.command_type is 'Kind of command, such as email';
comment on column lockgate.undelivered_messages.id is 'UUIDv7 of the row';
comment on column lockgate.undelivered_messages.message_id is 'Stable id of the message, the same in every copy ever sent';
comment on column lockgate.undelivered_messages.run_id is 'The run it came from; null: a direct command';
comment on column lockgate.undelivered_messages.step is 'Path of its fan-out';
comment on column lockgate.undelivered_messages.batch_seq is 'Its batch';
comment on column lockgate.undelivered_messages.item_id is 'Its item';
comment on column lockgate.undelivered_messages.status is 'due, refused, claimed, delivered, dead or discarded';
comment on column lockgate.undelivered_messages.reason_code is 'Why it was stored, from a closed set';
comment on column lockgate.undelivered_messages.reason is 'The same in words, without personal data';
comment on column lockgate.undelivered_messages.topic is 'Where it goes';
comment on column lockgate.undelivered_messages.key is 'Partitioning key';
comment on column lockgate.undelivered_messages.headers is 'Headers as an array of [name, value] in order';
comment on column lockgate.undelivered_messages.payload is 'Exact bytes; null when none could be made or once it was delivered';
comment on column lockgate.undelivered_messages.attempts is 'How often redelivery tried';
comment on column lockgate.undelivered_messages.next_attempt_at is 'When redelivery tries next';
comment on column lockgate.undelivered_messages.claim_token is 'Grows with every claim of the row';
comment on column lockgate.undelivered_messages.claim_id is 'Claim under which redelivery holds or settled it';
comment on column lockgate.undelivered_messages.claimed_by is 'Replica that redelivers or settled it';
comment on column lockgate.undelivered_messages.lease_until is 'When that claim ends';
comment on column lockgate.undelivered_messages.last_error is 'What the last attempt met, without personal data';
comment on column lockgate.undelivered_messages.kafka_partition is 'Partition of the acknowledged record';
comment on column lockgate.undelivered_messages.kafka_offset is 'Offset of the acknowledged record';
comment on column lockgate.undelivered_messages.actor is 'Who discarded it or sent it again by hand';
comment on column lockgate.undelivered_messages.created_at is 'When it was stored';
comment on column lockgate.undelivered_messages.finished_at is 'When it was delivered or discarded';
