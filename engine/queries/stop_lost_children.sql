-- Cancels a page of the children that branches of a run started which lost a select; answers how many.
select lockgate.stop_lost_children($1, $2)
