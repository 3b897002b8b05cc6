-- Signals that no step has taken, in order of arrival.
select run_id, seq, name, payload from lockgate.signals where run_id = any ($1) and consumed_by is null order by run_id, seq
