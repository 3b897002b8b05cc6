-- Claims the next batch of a run: soonest due first, whoever asks first, nobody waits for another's lock.
with gate as (
    -- An unpaced run is only looked at. A paced one is locked, so that the fleet takes one batch at a time; a little
    -- ahead of its time, which the holder waits for, so that polls leave no gaps.
    select r.id, r.pace_per_s from lockgate.task_runs r
     where r.id = $1 and r.status = 'running' and r.stop_status is null and r.pace_per_s is null
), paced_gate as (
    select r.id, r.pace_per_s, extract(epoch from greatest(r.pace_next_at, clock_timestamp()) - clock_timestamp())::float8 as wait_s
      from lockgate.task_runs r
     where r.id = $1 and r.status = 'running' and r.stop_status is null and r.pace_per_s is not null
       and r.pace_next_at <= clock_timestamp() + interval '2 seconds'
       for no key update skip locked
), pick as (
    select b.run_id, b.seq, b.status as was
      from (select id from gate union all select id from paced_gate) g
      join lockgate.run_batches b on b.run_id = g.id
     where b.status in ('free', 'recoverable') and b.not_before <= (select clock_timestamp())
       and exists (select 1 from lockgate.run_steps s
                    where s.run_id = b.run_id and s.path = b.step and (s.planned_at is not null or not s.consistent))
     order by b.run_id, b.not_before, b.seq
     limit 1
       for no key update of b skip locked
), claimed as (
    update lockgate.run_batches b
       set status = 'claimed', claim_token = b.claim_token + 1, claim_id = $2, claimed_by = $3, alone = false,
           lease_until = clock_timestamp() + make_interval(secs => $4)
      from pick
     where b.run_id = pick.run_id and b.seq = pick.seq
    returning b.*, pick.was
), paced as (
    update lockgate.task_runs r
       set pace_next_at = greatest(r.pace_next_at, clock_timestamp())
                          + make_interval(secs => claimed.n_items::double precision / r.pace_per_s)
      from claimed, paced_gate
     where r.id = claimed.run_id and r.id = paced_gate.id
), claim_audit as (
    insert into lockgate.transitions (entity, run_id, batch_seq, from_status, to_status, token, replica)
    select 'batch', run_id, seq, was, 'claimed', claim_token, $3 from claimed
)
select c.run_id, c.seq, c.claim_token, c.claim_id, c.step, c.first_id, c.last_id, c.n_items, i.ids, c.delivered_bits, c.attempts,
       (select pace_per_s from paced_gate) as pace_per_s, (select wait_s from paced_gate) as pace_wait_s
  from claimed c
  left join lockgate.run_batch_ids i on i.run_id = c.run_id and i.seq = c.seq
