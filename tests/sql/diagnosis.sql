-- Where a run stands, for a test that waited in vain.
select format('run %s stop %s claimed by %s until %s wake %s', r.status, r.stop_status, r.claimed_by, r.lease_until, r.wake_at) as line
  from lockgate.task_runs r where r.id = $1
union all
select format('step %s %s planned %s items %s', s.path, s.status, s.planned_at, s.planned_items) from lockgate.run_steps s where s.run_id = $1
union all
select format('%s batches %s, attempts to %s, due from %s, lease until %s', count(*), b.status, max(b.attempts),
              max(b.not_before), max(b.lease_until))
  from lockgate.run_batches b where b.run_id = $1 group by b.status
union all
select format('%s undelivered %s', count(*), u.status) from lockgate.undelivered_messages u where u.run_id = $1 group by u.status
union all
select format('replica %s seen %s, in flight %s, window %s of %s, breakers %s', p.id, p.seen_at, p.in_flight, p.window_used,
              p.window_size, p.breakers)
  from lockgate.replicas p where p.stopped_at is null
union all
select format('leader %s term %s until %s', l.holder, l.term, l.expires_at) from lockgate.leader_lease l
union all
select * from (
    select format('%s %s %s %s -> %s token %s %s', t.at, t.entity, t.batch_seq, t.from_status, t.to_status, t.token, t.reason)
      from lockgate.transitions t where t.run_id = $1 order by t.id desc limit 20) last
union all
select 'now ' || clock_timestamp()
