-- Makes a page of undelivered messages due now.
select to_jsonb(c)
  from lockgate.redeliver_undelivered($1, coalesce($2::text[], '{refused,dead,due}'), $3, $4, $5, $6, $7, $8,
                                      coalesce($9::text, 'sent again by hand'), $10) c
