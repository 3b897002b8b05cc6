-- Batches of a run in their order, optionally of one state.
select jsonb_build_object(
    'batch_seq', b.seq, 'step', b.step, 'status', b.status, 'first_id', b.first_id, 'last_id', b.last_id, 'items', b.n_items,
    'attempts', b.attempts, 'not_before', nullif(b.not_before, '-infinity'), 'claimed_by', b.claimed_by,
    'lease_until', b.lease_until, 'parent_seq', b.parent_seq, 'delivered', b.delivered, 'refused', b.refused,
    'unknown', b.unknown, 'skipped', b.skipped, 'vanished', b.vanished, 'finished_at', b.finished_at)
  from lockgate.run_batches b
 where b.run_id = $1 and ($2::text is null or b.status = $2)
 order by b.seq
 limit $3
