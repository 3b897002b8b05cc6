-- All leases of a process in one statement, with the progress to save. One locked row must not hold up the rest: it
-- is skipped and renewed next time. Answers the claims that were not renewed, and which of them are gone: whoever was
-- skipped must not believe that its lease is longer now.
with batches as (
    select m.* from unnest($1::uuid[], $2::integer[], $3::bigint[], $4::uuid[], $5::bytea[]) with ordinality
        m (run_id, seq, token, claim_id, bits, at)
), runs as (
    select m.* from unnest($6::uuid[], $7::bigint[], $8::uuid[]) with ordinality m (run_id, token, claim_id, at)
), held_batches as (
    select b.run_id, b.seq, b.claim_token as token, m.bits
      from batches m
      join lockgate.run_batches b
        on b.run_id = m.run_id and b.seq = m.seq and b.claim_token = m.token and b.claim_id = m.claim_id
     where b.status = 'claimed'
       for no key update of b skip locked
), renewed_batches as (
    update lockgate.run_batches b
       set lease_until = clock_timestamp() + make_interval(secs => $9),
           delivered_bits = coalesce(h.bits, b.delivered_bits),
           attempts = case when h.bits is null then b.attempts else 0 end
      from held_batches h
     where b.run_id = h.run_id and b.seq = h.seq
), held_runs as (
    select r.id, r.claim_token as token
      from runs m
      join lockgate.task_runs r on r.id = m.run_id and r.claim_token = m.token and r.claim_id = m.claim_id
       for no key update of r skip locked
), renewed_runs as (
    update lockgate.task_runs r
       set lease_until = clock_timestamp() + make_interval(secs => $9)
      from held_runs h
     where r.id = h.id
)
select 'batch' as kind, m.at,
       not exists (select 1 from lockgate.run_batches b
                    where b.run_id = m.run_id and b.seq = m.seq and b.claim_token = m.token
                      and b.claim_id = m.claim_id and b.status = 'claimed') as gone
  from batches m
 where not exists (select 1 from held_batches h where h.run_id = m.run_id and h.seq = m.seq and h.token = m.token)
union all
select 'run', m.at,
       not exists (select 1 from lockgate.task_runs r
                    where r.id = m.run_id and r.claim_token = m.token and r.claim_id = m.claim_id)
  from runs m
 where not exists (select 1 from held_runs h where h.id = m.run_id and h.token = m.token)
