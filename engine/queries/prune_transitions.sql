-- One page of audit rows of no run.
select lockgate.prune_transitions(make_interval(secs => $1), $2)
