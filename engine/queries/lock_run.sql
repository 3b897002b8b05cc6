-- The verbs on one run happen one after the other; each statement behind this one sees what earlier verbs committed.
-- Always the first lock of a verb, before any batch's, so that no two verbs wait for each other.
select status, driven_by, stop_status, reason from lockgate.task_runs where id = $1 for no key update
