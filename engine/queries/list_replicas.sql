-- Replicas, newest first; those that stopped or are gone only when asked for.
select jsonb_build_object(
    'replica_id', r.id, 'state', r.state, 'leader', l.holder is not null, 'version', r.version, 'roles', r.roles,
    'workflows', r.workflows, 'in_flight', r.in_flight, 'window_used', r.window_used, 'window_size', r.window_size,
    'breakers', r.breakers, 'started_at', r.started_at, 'seen_at', r.seen_at, 'stopped_at', r.stopped_at, 'host', r.host)
  from (select *, case when stopped_at is not null then 'stopped'
                       when seen_at + stale_after < (select clock_timestamp()) then 'gone'
                       when draining then 'draining' else 'live' end as state
          from lockgate.replicas) r
  left join lockgate.leader_lease l
    on l.name = 'engine' and l.holder = r.id and l.expires_at > (select clock_timestamp())
 where $1 or r.state in ('live', 'draining')
 order by r.started_at desc
 limit 1000
