-- Writes what became of a page of rows, with audit, and counts them. Whoever lost the claim finds none and changes
-- nothing.
with outcomes as (
    select * from unnest($3::text[], $4::uuid[], $5::bigint[], $6::text[], $7::integer[], $8::bigint[],
                         $9::double precision[], $10::text[], $11::text[])
        o (command_type, id, token, status, kafka_partition, kafka_offset, delay, code, error)
), settled as (
    update lockgate.undelivered_messages m
       set status = o.status, lease_until = null, attempts = m.attempts + 1, last_error = o.error,
           kafka_partition = o.kafka_partition, kafka_offset = o.kafka_offset,
           finished_at = case when o.status = 'delivered' then clock_timestamp() end,
           next_attempt_at = case when o.status = 'due' then clock_timestamp() + make_interval(secs => o.delay)
                             else m.next_attempt_at end,
           reason_code = case when o.status = 'refused' then o.code else m.reason_code end,
           reason = case when o.status = 'refused' then o.error else m.reason end,
           -- Delivered: nothing personal is kept.
           key = case when o.status <> 'delivered' then m.key end,
           headers = case when o.status <> 'delivered' then m.headers else '[]' end,
           payload = case when o.status <> 'delivered' then m.payload end
      from outcomes o
     where m.command_type = o.command_type and m.id = o.id and m.claim_token = o.token and m.claim_id = $1
       and m.status = 'claimed'
    returning m.id, m.run_id, m.batch_seq, m.claim_token, m.status, m.last_error
), audit as (
    insert into lockgate.transitions (entity, key, run_id, batch_seq, from_status, to_status, token, replica, reason)
    select 'undelivered', id::text, run_id, batch_seq, 'claimed', status, claim_token, $2, last_error
      from settled
     where status in ('delivered', 'refused', 'dead')
)
select count(*) from settled
