-- Who may use the HTTP API: tokens by their hash, with roles. Operators make and revoke them, replicas check them.
create table lockgate.api_tokens (
    id uuid primary key,
    name text not null check (name ~ '^[A-Za-z0-9._-]{1,64}$'),
    hash bytea not null check (octet_length(hash) = 32),
    roles text[] not null check (cardinality(roles) > 0 and roles <@ array['send', 'operate', 'read']),
    created_at timestamptz not null default clock_timestamp(),
    created_by text not null,
    expires_at timestamptz,
    revoked_at timestamptz,
    revoked_by text,
    last_used_at timestamptz,
    check ((revoked_at is null) = (revoked_by is null))
);

-- check_api_token
create unique index api_tokens_by_hash on lockgate.api_tokens (hash);
-- revoke_api_token, and that a name stands for one token; it is free again when that is revoked.
create unique index api_tokens_by_name on lockgate.api_tokens (name) where revoked_at is null;

comment on table lockgate.api_tokens is 'Tokens of the HTTP API; a row is never deleted, it says who made and who revoked it';
comment on column lockgate.api_tokens.id is 'Made by whoever makes the token';
comment on column lockgate.api_tokens.name is 'Whom it is for; recorded as the actor of what is done with it';
comment on column lockgate.api_tokens.hash is 'SHA-256 of the token; the token itself is nowhere';
comment on column lockgate.api_tokens.roles is 'What it may do: send commands, operate runs, read';
comment on column lockgate.api_tokens.created_at is 'When it was made';
comment on column lockgate.api_tokens.created_by is 'Who made it';
comment on column lockgate.api_tokens.expires_at is 'Not valid from then on; null: no end';
comment on column lockgate.api_tokens.revoked_at is 'When it was revoked';
comment on column lockgate.api_tokens.revoked_by is 'Who revoked it';
comment on column lockgate.api_tokens.last_used_at is 'When it was last used, exact to a minute';

comment on column lockgate.replicas.roles is 'What it does: leader, worker, api';

create function lockgate.create_api_token(
    p_id uuid, p_name text, p_hash bytea, p_roles text[], p_valid_for interval, p_actor text) returns void
language sql volatile security definer set search_path = pg_catalog, pg_temp as $$
    insert into lockgate.api_tokens (id, name, hash, roles, expires_at, created_by)
    values (p_id, p_name, p_hash, p_roles, clock_timestamp() + p_valid_for, lockgate.acting_user(p_actor))
$$;
comment on function lockgate.create_api_token(uuid, text, bytea, text[], interval, text) is
    'Makes a token of the HTTP API known by its SHA-256; a name that a token in force has is refused';

create function lockgate.list_api_tokens()
returns table (id uuid, name text, roles text[], created_at timestamptz, created_by text, expires_at timestamptz,
    revoked_at timestamptz, revoked_by text, last_used_at timestamptz)
language sql stable security definer set search_path = pg_catalog, pg_temp as $$
    select t.id, t.name, t.roles, t.created_at, t.created_by, t.expires_at, t.revoked_at, t.revoked_by, t.last_used_at
      from lockgate.api_tokens t
     order by t.created_at desc
     limit 1000
$$;
comment on function lockgate.list_api_tokens() is 'Tokens of the HTTP API, newest first, without their hashes';

create function lockgate.revoke_api_token(p_name text, p_actor text) returns boolean
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp as $$
begin
    update lockgate.api_tokens t
       set revoked_at = clock_timestamp(), revoked_by = lockgate.acting_user(p_actor)
     where t.name = p_name and t.revoked_at is null;
    return found;
end $$;
comment on function lockgate.revoke_api_token(text, text) is
    'Revokes the token of this name; false: no token in force has it. Replicas notice within seconds';

create function lockgate.check_api_token(p_hash bytea) returns table (name text, roles text[])
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp as $$
declare
    known lockgate.api_tokens;
begin
    select * into known from lockgate.api_tokens t
     where t.hash = p_hash and t.revoked_at is null
       and (t.expires_at is null or t.expires_at > clock_timestamp());
    if not found then return; end if;
    -- Coarse, so that a busy token costs a write a minute and not one a look; whoever finds the row locked leaves it.
    if known.last_used_at is null or known.last_used_at < clock_timestamp() - interval '1 minute' then
        update lockgate.api_tokens t set last_used_at = clock_timestamp()
         where t.id = (select u.id from lockgate.api_tokens u where u.id = known.id for no key update skip locked);
    end if;
    return query select known.name, known.roles;
end $$;
comment on function lockgate.check_api_token(bytea) is
    'Name and roles of the token with this SHA-256; no row: it is unknown, expired or revoked';

do $$
declare
    granted record;
begin
    revoke all on lockgate.api_tokens from public;
    revoke all on function lockgate.create_api_token(uuid, text, bytea, text[], interval, text),
        lockgate.list_api_tokens(), lockgate.revoke_api_token(text, text), lockgate.check_api_token(bytea) from public;
    for granted in select rolname from pg_roles where rolname = 'lockgate_operator' loop
        execute format('grant execute on function
            lockgate.create_api_token(uuid, text, bytea, text[], interval, text), lockgate.list_api_tokens(),
            lockgate.revoke_api_token(text, text) to %I', granted.rolname);
    end loop;
    for granted in select rolname from pg_roles where rolname = 'lockgate_engine' loop
        execute format('grant execute on function lockgate.check_api_token(bytea) to %I', granted.rolname);
    end loop;
end $$;
