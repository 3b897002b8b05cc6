-- Signals that no step of a page of runs has taken, in order of arrival, each with its payload if it is small, and at most
-- so many.
select run_id, seq, name, case when octet_length(payload) <= $2 then payload end as payload,
       coalesce(octet_length(payload) > $2, false) as left_out
  from lockgate.signals
 where run_id = any ($1) and consumed_by is null
 order by run_id, seq
 limit $3
