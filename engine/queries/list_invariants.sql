-- What must never be. What has only stood still for long is among what is stuck: a fleet that is stopped breaks no promise.
select to_jsonb(i) from lockgate.v_invariants i where i.invariant <> 'V10' limit 100
