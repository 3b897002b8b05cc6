-- Gives batches back unfinished with what is delivered of them; not a death, so no attempt is counted.
with back as (
    update lockgate.run_batches b
       set status = 'free', claim_id = null, claimed_by = null, lease_until = null, alone = false,
           delivered_bits = coalesce(m.bits, b.delivered_bits),
           attempts = case when m.bits is null then b.attempts else 0 end,
           not_before = clock_timestamp() + make_interval(secs => m.delay)
      from unnest($1::uuid[], $2::integer[], $3::bigint[], $4::uuid[], $5::bytea[], $6::double precision[], $7::text[])
               m (run_id, seq, token, claim_id, bits, delay, reason)
     where b.run_id = m.run_id and b.seq = m.seq and b.claim_token = m.token and b.claim_id = m.claim_id
       and b.status = 'claimed'
    returning b.run_id, b.seq, b.claim_token, m.reason
)
insert into lockgate.transitions (entity, run_id, batch_seq, from_status, to_status, token, replica, reason)
select 'batch', run_id, seq, 'claimed', 'free', claim_token, $8, reason from back
