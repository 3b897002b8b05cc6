-- The schedule fires again, from now on.
select lockgate.resume_schedule($1, $2, $3)
