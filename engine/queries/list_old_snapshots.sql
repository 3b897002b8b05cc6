-- Transactions of this database whose snapshot is older than so many seconds; a plain role sees only its own sessions.
select jsonb_build_object('pid', a.pid, 'since', a.xact_start, 'application', a.application_name)
  from pg_catalog.pg_stat_activity a
 where (a.backend_xmin is not null or a.backend_xid is not null) and a.xact_start < (select clock_timestamp()) - $1::float8 * interval '1 second'
   and a.pid <> pg_backend_pid() and a.datname = current_database() and a.backend_type = 'client backend'
 order by a.xact_start
 limit 10
