-- What claims cost a limited queue: its tokens, and whose turn was last.
update lockgate.queues q
   set tokens = least(q.burst, q.tokens + q.rate_per_s * extract(epoch from n.at - q.refilled_at)) - $2,
       refilled_at = case when q.rate_per_s is not null then n.at end,
       last_tenant = coalesce($3, q.last_tenant), last_key = coalesce($4, q.last_key)
  from (select clock_timestamp() as at) n
 where q.name = $1
