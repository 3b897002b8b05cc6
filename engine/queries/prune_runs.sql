-- A set of runs that are over and not needed, or a page of a large one.
select pruned, more from lockgate.prune_runs(make_interval(secs => $1), $2)
