-- What became of a run's items.
select to_jsonb(p) from lockgate.v_run_proof p where p.run_id = $1
