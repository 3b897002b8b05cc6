-- What the doctor looks at on the server side.
select jsonb_build_object(
    'clock', clock_timestamp(),
    'in_recovery', pg_is_in_recovery(),
    'read_only', current_setting('transaction_read_only') = 'on',
    'max_connections', current_setting('max_connections')::int,
    'reserved_connections', current_setting('superuser_reserved_connections')::int,
    'role_connection_limit', (select r.rolconnlimit from pg_catalog.pg_roles r where r.rolname = current_user),
    'idle_in_transaction_ms', (select s.setting::bigint from pg_catalog.pg_settings s
                                where s.name = 'idle_in_transaction_session_timeout'),
    'synchronous_commit', current_setting('synchronous_commit'),
    'fsync', current_setting('fsync') = 'on',
    'current_user', current_user)
