-- Cancels a page of the children of a run that is over or asked to stop; answers how many rows that changed.
select lockgate.stop_children($1, $2)
