-- The demo domain of the sagas: a shop. Made by whoever wants to try it, never by a migration.
create schema if not exists shop;
create table if not exists shop.stock (
    item text primary key,
    available integer not null check (available >= 0)
);
create table if not exists shop.reservations (
    order_id bigint primary key,
    item text not null,
    quantity integer not null,
    released_at timestamptz
);
-- A service of somebody else: it has its own connection, and knows a payment by the key that it was asked under.
create table if not exists shop.payments (
    key uuid primary key,
    order_id bigint not null,
    cents bigint not null,
    charges integer not null default 0,
    refunded_at timestamptz
);
create table if not exists shop.shipments (
    order_id bigint primary key,
    address text not null,
    recalled_at timestamptz
);
alter table shop.shipments add column if not exists recalled_at timestamptz;
create table if not exists shop.approvals (
    expense_id bigint primary key,
    cents bigint not null,
    asked text not null,
    escalated boolean not null default false,
    approved boolean,
    decided_by text
);
