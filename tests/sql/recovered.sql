-- Items of batches taken from each holder whose lease had ended: what may be sent again because of it.
select t.replica, count(*) as claims, sum(b.n_items)::bigint as items
  from lockgate.transitions t
  join lockgate.run_batches b on b.run_id = t.run_id and b.seq = t.batch_seq
 where t.run_id = $1 and t.entity = 'batch' and t.from_status = 'claimed' and t.to_status in ('recoverable', 'split')
 group by t.replica
