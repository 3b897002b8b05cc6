-- One page of settled direct commands.
select lockgate.prune_undelivered(make_interval(secs => $1), $2)
