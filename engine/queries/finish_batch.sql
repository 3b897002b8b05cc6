-- Finishes a batch with any outcome. What was not delivered is stored in the same statement: no claim, no rows.
with finished as (
    update lockgate.run_batches b
       set status = 'done', delivered = $6, refused = $7, unknown = $8, skipped = $9, vanished = $10,
           refused_ids = $11, unknown_ids = $12, skipped_ids = $13, vanished_ids = $14,
           delivered_bits = null, lease_until = null, attempts = 0, finished_at = clock_timestamp()
     where b.run_id = $1 and b.seq = $2 and b.claim_token = $3 and b.claim_id = $4 and b.status = 'claimed'
    returning b.*
), stored as (
    insert into lockgate.undelivered_messages (command_type, id, message_id, run_id, step, batch_seq, item_id, status,
        reason_code, reason, topic, key, headers, payload, next_attempt_at)
    select u.command_type, u.id, u.message_id, f.run_id, f.step, f.seq, u.item_id,
           case when u.refused then 'refused' else 'due' end,
           u.code, u.reason, u.topic, u.key, u.headers, u.payload, clock_timestamp() + make_interval(secs => $15)
      from finished f,
           unnest($16::uuid[], $17::uuid[], $18::bigint[], $19::boolean[], $20::text[], $21::text[], $22::text[],
                  $23::text[], $24::bytea[], $25::jsonb[], $26::bytea[])
               u (id, message_id, item_id, refused, code, reason, command_type, topic, key, headers, payload)
    on conflict do nothing
)
insert into lockgate.transitions (entity, run_id, batch_seq, from_status, to_status, token, replica, reason)
select 'batch', f.run_id, f.seq, 'claimed', 'done', f.claim_token, $5, 
       case when f.delivered <> f.n_items then format('delivered %s, refused %s, unknown %s, skipped %s, vanished %s',
           f.delivered, f.refused, f.unknown, f.skipped, f.vanished) end
  from finished f
