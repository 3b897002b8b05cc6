-- A page of a run's batches in their order, with their exact items and the items that were not delivered at once.
select b.seq, b.step, b.status, b.parent_seq, b.first_id, b.last_id, b.n_items, i.ids,
       b.refused_ids, b.unknown_ids, b.skipped_ids, b.vanished_ids
  from lockgate.run_batches b
  left join lockgate.run_batch_ids i on i.run_id = b.run_id and i.seq = b.seq
 where b.run_id = $1 and b.seq > $2
 order by b.seq
 limit $3
