-- How far a run is, for whoever waits for its end.
select jsonb_build_object(
    'status', r.status, 'reason', r.reason,
    'planned', coalesce((select sum(s.planned_items) from lockgate.run_steps s where s.run_id = r.id), 0),
    'planned_whole', not exists (select 1 from lockgate.run_steps s where s.run_id = r.id and s.planned_at is null)
        and exists (select 1 from lockgate.run_steps s where s.run_id = r.id),
    'done', coalesce((select sum(b.n_items) from lockgate.run_batches b where b.run_id = r.id and b.status = 'done'), 0),
    'delivered', coalesce((select sum(b.delivered) from lockgate.run_batches b where b.run_id = r.id and b.status = 'done'), 0))
  from lockgate.task_runs r
 where r.id = $1
