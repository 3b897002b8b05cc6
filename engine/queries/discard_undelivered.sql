-- Gives up a page of undelivered messages for good.
select to_jsonb(c)
  from lockgate.discard_undelivered($9, $1, coalesce($2::text[], '{refused,dead,due}'), $3, $4, $5, $6, $7, $8, $10) c
