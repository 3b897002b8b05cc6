-- The highest number that follows or precedes one in use and is free itself.
select candidate.seq::integer
  from lockgate.run_batches b cross join lateral (values (b.seq::bigint + 1), (b.seq::bigint - 1)) candidate (seq)
 where b.run_id = $1 and candidate.seq between -2147483648 and 2147483647
   and not exists (select 1 from lockgate.run_batches n where n.run_id = $1 and n.seq = candidate.seq)
 order by b.seq desc, candidate.seq desc limit 1
