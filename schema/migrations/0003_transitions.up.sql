-- The append-only audit, written in the same statement or transaction as the change it records.
create table lockgate.transitions (
    id bigint generated always as identity,
    at timestamptz not null default clock_timestamp(),
    entity text not null check (entity in ('run', 'batch', 'schedule', 'undelivered', 'leader')),
    run_id uuid,
    batch_seq integer,
    key text,
    from_status text,
    to_status text not null,
    token bigint,
    term bigint,
    replica uuid,
    actor text,
    reason text
) with (autovacuum_vacuum_insert_scale_factor = 0.2);

-- runs show, the proof, the bound of duplicates: one run's history in order.
create index transitions_by_run on lockgate.transitions (run_id, id);
-- prune_transitions and questions by time; a few pages whatever the size.
create index transitions_by_time on lockgate.transitions using brin (at);

comment on table lockgate.transitions is 'Append-only audit: one row per change of state';
comment on column lockgate.transitions.id is 'Order of writing; for one entity also the order of commits';
comment on column lockgate.transitions.at is 'When, by the database clock';
comment on column lockgate.transitions.entity is 'run, batch, schedule, undelivered or leader';
comment on column lockgate.transitions.run_id is 'The run it belongs to';
comment on column lockgate.transitions.batch_seq is 'The batch, for batches';
comment on column lockgate.transitions.key is 'Schedule name, id of an undelivered row or name of a lease';
comment on column lockgate.transitions.from_status is 'State before; null: it came into being';
comment on column lockgate.transitions.to_status is 'State after';
comment on column lockgate.transitions.token is 'Claim token under which it was written';
comment on column lockgate.transitions.term is 'Leader term under which it was written';
comment on column lockgate.transitions.replica is 'Replica that wrote it';
comment on column lockgate.transitions.actor is 'Person or program that asked for it';
comment on column lockgate.transitions.reason is 'Why, without personal data';
