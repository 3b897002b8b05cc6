-- Starts a run for a person; the outcome says whether it is new, found, held or busy.
select jsonb_build_object('outcome', s.outcome, 'run_id', s.run_id)
  from lockgate.try_start_new_run(
      p_id => $1, p_workflow => $2, p_params => $3, p_driven_by => 'engine', p_singleton_key => $4, p_idempotency_key => $5,
      p_schedule => null, p_slot => null, p_wake_at => $6, p_pace_per_s => $7,
      p_deadline => $8::float8 * interval '1 second', p_origin_id => null, p_traceparent => $9, p_leader_term => null,
      p_actor => $10) s
