-- One page of runs that are over and owe nothing.
select lockgate.prune_runs(make_interval(secs => $1), $2)
