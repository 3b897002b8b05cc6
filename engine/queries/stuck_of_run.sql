-- What of one run does not move, the oldest first.
select to_jsonb(s) from lockgate.v_stuck s where s.run_id = $1 order by s.since limit 100
