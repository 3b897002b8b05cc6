-- Sessions whose snapshot is older than so many seconds; without pg_read_all_stats for the owner only those of its own roles.
select jsonb_build_object('pid', s.pid, 'since', s.since, 'application', s.application)
  from lockgate.old_snapshots(make_interval(secs => $1)) s
 where s.kind = 'session'
 order by s.since
 limit 10
