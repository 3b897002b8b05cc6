drop function lockgate.prune_replicas(interval, integer);
drop function lockgate.prune_undelivered(interval, integer);
drop function lockgate.prune_transitions(interval, integer);
drop function lockgate.prune_runs(interval, integer);
drop index lockgate.undelivered_unsettled;
drop index lockgate.task_runs_pruning;
