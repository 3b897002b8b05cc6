-- What the leader reports of the fleet: a gauge of the catalogue, its label, its value. Read through the views that people ask.
with queues as materialized (select * from lockgate.v_queue_health),
     undelivered as materialized (select * from lockgate.v_undelivered)
select 'lockgate.queue.ready' as gauge, q.queue as label, q.ready::float8 as value from queues q
union all
select 'lockgate.queue.running', q.queue, q.running from queues q
union all
select 'lockgate.queue.limited', q.queue, q.max_running from queues q where q.max_running is not null
union all
select 'lockgate.queue.oldest_ready.age', q.queue, coalesce(q.oldest_ready_age_s, 0) from queues q
union all
select 'lockgate.undelivered.messages', u.status, u.messages from undelivered u
union all
select 'lockgate.undelivered.oldest.age', u.status, coalesce(u.waiting_s, 0) from undelivered u
union all
select 'lockgate.outbox.oldest.age', '', coalesce(max(o.oldest_age_s), 0) from lockgate.v_outbox_health o
union all
select 'lockgate.fan_out.remaining', p.workflow, sum(p.remaining) from lockgate.v_run_progress p group by p.workflow
union all
select 'lockgate.replicas', s.state, count(r.state)
  from (values ('live'), ('draining'), ('gone')) s (state) left join lockgate.v_replicas r on r.state = s.state
 group by s.state
union all
select 'lockgate.db.oldest_snapshot.age', '', coalesce(max(o.age_s), 0) from lockgate.old_snapshots('10 seconds') o
