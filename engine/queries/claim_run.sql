-- The run whose code has waited longest to go on, among the workflows this replica has.
with pick as (
    select r.id, r.status as was
      from lockgate.task_runs r
     where r.claim_id is null and r.wake_at is not null and r.wake_at <= (select clock_timestamp())
       and r.status in ('queued', 'running', 'suspended') and r.stop_status is null and r.driven_by = 'engine'
       and r.workflow = any ($2)
       and not exists (select 1 from lockgate.task_runs e where e.id = r.after_run and e.finished_at is null)
     order by r.wake_at
     limit 1
       for no key update of r skip locked
), claimed as (
    update lockgate.task_runs r
       set status = 'running', claim_token = r.claim_token + 1, claim_id = $1, claimed_by = $3,
           lease_until = clock_timestamp() + make_interval(secs => $4),
           started_at = coalesce(r.started_at, clock_timestamp())
      from pick
     where r.id = pick.id
    returning r.*, pick.was
), audit as (
    insert into lockgate.transitions (entity, run_id, from_status, to_status, token, replica)
    select 'run', id, was, 'running', claim_token, $3 from claimed
)
select id, claim_token, workflow, params, origin_id, slot, created_at, traceparent, wake_seq from claimed
