-- Who is alive, and who leads.
create table lockgate.replicas (
    id uuid primary key,
    version text not null,
    roles text[] not null,
    workflows text[] not null,
    started_at timestamptz not null default clock_timestamp(),
    seen_at timestamptz not null default clock_timestamp(),
    stale_after interval not null,
    draining boolean not null default false,
    stopped_at timestamptz,
    in_flight integer not null default 0,
    window_used integer not null default 0,
    window_size integer not null default 0,
    breakers jsonb not null default '[]'
) with (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.1, autovacuum_vacuum_threshold = 50);

comment on table lockgate.replicas is 'One row per process start';
comment on column lockgate.replicas.id is 'Made at process start; never a host name';
comment on column lockgate.replicas.version is 'Version of the binary';
comment on column lockgate.replicas.roles is 'What it does: leader, worker';
comment on column lockgate.replicas.workflows is 'Workflows whose code it has';
comment on column lockgate.replicas.started_at is 'When it registered';
comment on column lockgate.replicas.seen_at is 'Last heartbeat';
comment on column lockgate.replicas.stale_after is 'Without a heartbeat for this long it counts as gone';
comment on column lockgate.replicas.draining is 'It takes no new work';
comment on column lockgate.replicas.stopped_at is 'When it left in good order';
comment on column lockgate.replicas.in_flight is 'Batches it holds';
comment on column lockgate.replicas.window_used is 'Items sent whose outcome is not committed yet';
comment on column lockgate.replicas.window_size is 'Bound of window_used';
comment on column lockgate.replicas.breakers is 'Breakers that are not closed: topic, state, since, reason';

create table lockgate.leader_lease (
    name text primary key,
    term bigint not null,
    holder uuid not null,
    elected_at timestamptz not null,
    expires_at timestamptz not null
) with (fillfactor = 50);

comment on table lockgate.leader_lease is 'The right to fire schedules, sweep and prune';
comment on column lockgate.leader_lease.name is 'Name of the lease; the engine uses engine';
comment on column lockgate.leader_lease.term is 'Grows with every election; every write of a leader names it';
comment on column lockgate.leader_lease.holder is 'Replica that leads';
comment on column lockgate.leader_lease.elected_at is 'When the term began';
comment on column lockgate.leader_lease.expires_at is 'When it ends unless renewed';
