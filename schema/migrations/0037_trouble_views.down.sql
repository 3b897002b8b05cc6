drop function lockgate.scaler_depth(text);
drop function lockgate.run_invariants(uuid);
drop view lockgate.v_invariants;
drop view lockgate.v_stuck;
