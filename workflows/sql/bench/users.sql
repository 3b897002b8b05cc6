-- What the benchmark reads: users with 158 bytes of text each, of whom a fixed but scattered 30 in 100 are picked.
create schema bench;
create table bench.users (
    id bigint primary key,
    email text not null,
    name text not null,
    locale text not null,
    title text not null,
    about text not null,
    picked boolean not null
) with (autovacuum_enabled = off);
-- The hand-written loop records its progress here: one row a worker, as it would be written by hand.
create table bench.progress (
    worker integer primary key,
    last_id bigint not null default 0,
    sent bigint not null default 0
) with (fillfactor = 50);
