-- Nothing of the schedule fires until it is resumed.
select lockgate.pause_schedule($1, $2, $3)
