-- One page of what consumers need not remember any more.
select lockgate.prune_inbox(make_interval(secs => $1), $2)
