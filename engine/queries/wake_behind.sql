-- Lets the runs begin that wait until this one is over, or makes them wait for the one that goes on in its place.
select lockgate.wake_behind($1)
