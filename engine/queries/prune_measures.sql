-- One page of what replicas counted too long ago.
select lockgate.prune_measures(make_interval(secs => $1), $2)
