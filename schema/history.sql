-- The migrator's own table; made before the first migration, kept after the last is reverted.
create schema if not exists lockgate;
create table if not exists lockgate.migrations (
    version integer primary key,
    title text not null,
    min_writer integer not null default 1,
    applied_at timestamptz not null default clock_timestamp(),
    applied_by text not null default session_user
);
comment on table lockgate.migrations is 'Which migrations this database has';
comment on column lockgate.migrations.version is 'Number of the migration';
comment on column lockgate.migrations.title is 'What it does';
comment on column lockgate.migrations.min_writer is 'Binaries that know no migration this new must not write; raised by a contracting migration';
comment on column lockgate.migrations.applied_at is 'When it was applied';
comment on column lockgate.migrations.applied_by is 'By whom';
