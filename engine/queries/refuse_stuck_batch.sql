-- The one item that alone still kills its worker is stored as refused, and its batch is done.
with finished as (
    update lockgate.run_batches b
       set status = 'done', delivered = 0, refused = 1, unknown = 0, skipped = 0, vanished = 0, refused_ids = $4,
           delivered_bits = null, lease_until = null, finished_at = clock_timestamp()
     where b.run_id = $1 and b.seq = $2 and b.claim_token = $3 and b.status = 'claimed' and b.n_items = 1
       and b.lease_until < clock_timestamp()
    returning b.*
), stored as (
    insert into lockgate.undelivered_messages (command_type, id, message_id, run_id, step, batch_seq, item_id, status,
        reason_code, reason, topic)
    select 'unknown', $5, $6, f.run_id, f.step, f.seq, f.first_id, 'refused', 'kills_worker',
           'every worker that took it died', 'unknown'
      from finished f
    on conflict do nothing
)
insert into lockgate.transitions (entity, run_id, batch_seq, from_status, to_status, token, replica, reason)
select 'batch', f.run_id, f.seq, 'claimed', 'done', f.claim_token, f.claimed_by,
       format('delivered %s, refused %s, unknown %s, skipped %s, vanished %s', 0, 1, 0, 0, 0)
  from finished f
