-- One run with its steps, its batches by state, and the last of its history that says something.
select jsonb_build_object(
    'run_id', r.id, 'workflow', r.workflow, 'status', r.status, 'stopping', r.stop_status, 'driven_by', r.driven_by,
    'schedule', r.schedule, 'slot', r.slot, 'singleton_key', r.singleton_key, 'idempotency_key', r.idempotency_key,
    'queue', coalesce(r.queue, r.workflow), 'tenant', r.tenant, 'attributes', r.attributes, 'parent_id', r.parent_id,
    'forked_from', r.forked_from,
    'reason', r.reason, 'actor', r.actor, 'created_at', r.created_at, 'started_at', r.started_at, 'finished_at', r.finished_at,
    'origin_id', r.origin_id, 'pace_per_s', r.pace_per_s, 'deadline_at', r.deadline_at, 'claimed_by', r.claimed_by,
    'lease_until', r.lease_until, 'parent_path', r.parent_path,
    'detached', coalesce(r.detached, false), 'continued_as', r.continued_as,
    'children', coalesce((
        select jsonb_object_agg(x.status, x.n)
          from (select c.status, count(*) as n from lockgate.task_runs c where c.parent_id = r.id group by c.status) x), '{}'),
    'forks', coalesce((
        select jsonb_agg(f.id order by f.id desc)
          from (select x.id from lockgate.task_runs x where x.forked_from = r.id order by x.id desc limit 100) f), '[]'),
    'shown', coalesce((
        select jsonb_agg(jsonb_build_object('name', v.name, 'value', v.value, 'at', v.at) order by v.name)
          from lockgate.shown(r.id) v), '[]'),
    'steps', coalesce((
        select jsonb_agg(jsonb_build_object(
                   'path', s.path, 'kind', s.kind, 'status', s.status, 'planned_items', coalesce(s.planned_items, 0),
                   'planned_batches', coalesce(s.planned_batches, 0), 'planned_at', s.planned_at, 'due_at', s.due_at,
                   'attempts', coalesce(s.attempts, 0), 'started_at', s.started_at, 'finished_at', s.finished_at,
                   'done_batches', d.batches, 'done_items', d.items, 'delivered', d.delivered) order by s.started_at, s.path)
          from lockgate.run_steps s
         cross join lateral (
             select count(*) as batches, coalesce(sum(b.n_items), 0) as items, coalesce(sum(b.delivered), 0) as delivered
               from lockgate.run_batches b where b.run_id = s.run_id and b.step = s.path and b.status = 'done') d
         where s.run_id = r.id), '[]'),
    'batches', coalesce((
        select jsonb_object_agg(x.status, x.n)
          from (select b.status, count(*) as n from lockgate.run_batches b where b.run_id = r.id group by b.status) x), '{}'),
    'transitions', coalesce((
        select jsonb_agg(to_jsonb(x) - 'id' order by x.id)
          from (select t.id, t.at, t.entity, t.batch_seq, t.from_status, t.to_status, t.replica, t.actor, t.reason
                  from lockgate.transitions t
                 where t.run_id = r.id and (t.entity = 'run' or t.reason is not null)
                 order by t.id desc limit $2) x), '[]'))
  from lockgate.task_runs r
 where r.id = $1
