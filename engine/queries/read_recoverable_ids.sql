-- Everything that is stuck, also what earlier recoveries found and nobody has claimed since.
select b.first_id, b.last_id, b.n_items, i.ids
  from lockgate.run_batches b left join lockgate.run_batch_ids i on i.run_id = b.run_id and i.seq = b.seq
 where b.run_id = $1 and b.status = 'recoverable'
