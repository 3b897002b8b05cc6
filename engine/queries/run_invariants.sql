-- What of one run must never be.
select to_jsonb(i) from lockgate.run_invariants($1) i limit 100
