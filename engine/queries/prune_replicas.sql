-- One page of replicas that are gone.
select lockgate.prune_replicas(make_interval(secs => $1), $2)
