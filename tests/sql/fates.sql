-- Every item of a run with what became of it first; open: its batch is not finished.
select i.item_id, b.step, coalesce(e.outcome, case when b.status = 'done' then 'delivered' else 'open' end) as fate
  from lockgate.batch_items($1) i
  join lockgate.run_batches b on b.run_id = $1 and b.seq = i.batch_seq
  left join lockgate.batch_exceptions($1) e on e.batch_seq = i.batch_seq and e.item_id = i.item_id
