-- Ends a run that was asked to stop, once nothing of it is held.
select lockgate.settle_stop($1)
