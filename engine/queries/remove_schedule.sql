-- Removes the schedule; its runs stay.
select lockgate.remove_schedule($1, $2, $3)
