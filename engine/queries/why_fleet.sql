-- Live replicas that execute, and whether somebody leads.
select jsonb_build_object(
    'replicas', coalesce((
        select jsonb_agg(jsonb_build_object(
                   'replica', r.id, 'draining', r.draining, 'workflows', r.workflows, 'replays', r.replays, 'window_used', r.window_used,
                   'window_size', r.window_size, 'breakers', r.breakers) order by r.started_at)
          from lockgate.replicas r
         where r.stopped_at is null and r.seen_at + r.stale_after >= (select clock_timestamp()) and 'worker' = any (r.roles)), '[]'),
    'leader', jsonb_build_object(
        'leads', exists (select 1 from lockgate.leader_lease l where l.name = 'engine' and l.expires_at > (select clock_timestamp())),
        'expired_at', (select l.expires_at from lockgate.leader_lease l
                        where l.name = 'engine' and l.expires_at <= (select clock_timestamp()))))
