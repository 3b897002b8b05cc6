-- How far a run is, or the one that goes on in its place, for whoever waits for its end.
select jsonb_build_object(
    'status', r.status, 'reason', r.reason,
    'planned', coalesce((select sum(s.planned_items) from lockgate.run_steps s where s.run_id = r.id and s.kind = 'fan_out'), 0),
    'planned_whole', coalesce((select bool_and(s.planned_at is not null) from lockgate.run_steps s
                                where s.run_id = r.id and s.kind = 'fan_out'), false),
    'done', coalesce((select sum(b.n_items) from lockgate.run_batches b where b.run_id = r.id and b.status = 'done'), 0),
    'delivered', coalesce((select sum(b.delivered) from lockgate.run_batches b where b.run_id = r.id and b.status = 'done'), 0))
  from lockgate.task_runs r
 where r.id = lockgate.last_run($1)
