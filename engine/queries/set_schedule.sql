-- Makes a schedule what it is told to be; a pause stays. Answers whether it was created, changed or left as it was.
select lockgate.set_schedule($1, $2, $3, $4, $5, $6, $7, $8, $9, make_interval(secs => $10), $11, make_interval(secs => $12), $13,
    make_interval(secs => $14), $15, $16, $17, $18, $19, $20, $21)
