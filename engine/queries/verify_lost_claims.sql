-- How many claims of each batch ended otherwise than by finishing it: each may have sent what a later one sent again.
select t.batch_seq, count(*)
  from lockgate.transitions t
 where t.run_id = $1 and t.entity = 'batch' and t.from_status = 'claimed' and t.to_status <> 'done'
 group by t.batch_seq
