-- Batches: the exact items, who holds them, what became of them. One row a batch, never a row an item.
create table lockgate.run_batches (
    run_id uuid not null references lockgate.task_runs on delete cascade,
    seq integer not null,
    step text,
    status text not null default 'free' check (status in ('free', 'claimed', 'recoverable', 'done', 'split')),
    first_id bigint not null,
    last_id bigint not null,
    n_items integer not null check (n_items > 0),
    parent_seq integer,
    attempts smallint not null default 0,
    alone boolean not null default false,
    not_before timestamptz not null default '-infinity',
    claim_token bigint not null default 0,
    claim_id uuid,
    claimed_by uuid,
    lease_until timestamptz,
    delivered_bits bytea,
    delivered integer,
    refused integer,
    unknown integer,
    skipped integer,
    vanished integer,
    refused_ids bytea,
    unknown_ids bytea,
    skipped_ids bytea,
    vanished_ids bytea,
    finished_at timestamptz,
    primary key (run_id, seq),
    check (last_id >= first_id),
    check ((status = 'claimed') = (lease_until is not null)),
    check (status <> 'claimed' or (claim_id is not null and claimed_by is not null and claim_token > 0)),
    check ((status = 'done') = (delivered is not null))
) with (
    -- A batch is rewritten two or three times in its life.
    fillfactor = 60,
    autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 1000,
    autovacuum_analyze_scale_factor = 0.05
);

-- claim_next_batch, complete_fan_out: what waits, soonest first.
create index run_batches_waiting on lockgate.run_batches (run_id, not_before, seq)
    where status in ('free', 'recoverable');
-- recover_batches, renew_leases, complete_fan_out: what is held. No lease time in it, so renewals stay HOT.
create index run_batches_claimed on lockgate.run_batches (run_id, seq) where status = 'claimed';

create table lockgate.run_batch_ids (
    run_id uuid not null,
    seq integer not null,
    ids bytea not null,
    primary key (run_id, seq),
    foreign key (run_id, seq) references lockgate.run_batches on delete cascade
);
-- Already packed: compressing it again costs four times the processor time of planning and saves nothing.
alter table lockgate.run_batch_ids alter column ids set storage external;

comment on table lockgate.run_batches is 'One row per batch: up to a thousand items held under one lease';
comment on column lockgate.run_batches.run_id is 'The run';
comment on column lockgate.run_batches.seq is 'Number of the batch, unique in the run';
comment on column lockgate.run_batches.step is 'Path of the fan-out that planned it; null: made by claim_batch';
comment on column lockgate.run_batches.status is 'free, claimed, recoverable, done or split (its items are in two younger batches)';
comment on column lockgate.run_batches.first_id is 'Smallest item';
comment on column lockgate.run_batches.last_id is 'Largest item';
comment on column lockgate.run_batches.n_items is 'How many items; last_id - first_id + 1 when they are contiguous, else run_batch_ids has them';
comment on column lockgate.run_batches.parent_seq is 'The batch it was split from';
comment on column lockgate.run_batches.attempts is 'How many holders died on it without saving progress';
comment on column lockgate.run_batches.alone is 'Its holder runs nothing else: a suspect, found out by whether the holder dies';
comment on column lockgate.run_batches.not_before is 'Not claimed before this instant';
comment on column lockgate.run_batches.claim_token is 'Grows with every claim of the batch';
comment on column lockgate.run_batches.claim_id is 'Chosen by the claimer before the request; kept when done, so that a lost answer can be found again';
comment on column lockgate.run_batches.claimed_by is 'Replica that holds or finished it';
comment on column lockgate.run_batches.lease_until is 'When the claim ends unless renewed';
comment on column lockgate.run_batches.delivered_bits is 'Bit per item in ascending order: acknowledged before the batch was finished or handed back';
comment on column lockgate.run_batches.delivered is 'First outcome: items the broker acknowledged';
comment on column lockgate.run_batches.refused is 'First outcome: items that can never go as they are';
comment on column lockgate.run_batches.unknown is 'First outcome: items that may or may not be in the log';
comment on column lockgate.run_batches.skipped is 'First outcome: items for which the workflow made no message';
comment on column lockgate.run_batches.vanished is 'First outcome: items whose row was gone when read';
comment on column lockgate.run_batches.refused_ids is 'Which were refused, packed; see lockgate.decode_ids';
comment on column lockgate.run_batches.unknown_ids is 'Which were unknown, packed';
comment on column lockgate.run_batches.skipped_ids is 'Which were skipped, packed';
comment on column lockgate.run_batches.vanished_ids is 'Which had vanished, packed';
comment on column lockgate.run_batches.finished_at is 'When it was done or split';
comment on table lockgate.run_batch_ids is 'The exact items of batches that are not contiguous; written once';
comment on column lockgate.run_batch_ids.run_id is 'The run';
comment on column lockgate.run_batch_ids.seq is 'The batch';
comment on column lockgate.run_batch_ids.ids is 'The items, packed relative to first_id; see lockgate.decode_ids';
