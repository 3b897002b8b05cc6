-- What does not move, the oldest first; who leads is looked at apart.
select to_jsonb(s) from lockgate.v_stuck s where s.kind <> 'no_leader' order by s.since limit 100
