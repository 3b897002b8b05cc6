-- Makes the settings of a queue what is given; answers what that changed.
select to_jsonb(lockgate.set_queue($1, $2, $3, $4, $5, $6, $7, make_interval(secs => $8), $9, $10, $11))
