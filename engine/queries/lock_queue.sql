-- The gate of a limited queue: whoever has its row claims, others come again. Statements after this one see what was
-- claimed before.
select q.paused_at is not null as paused, q.fair, q.max_per_key is not null as per_key, q.rate_per_s,
       least(q.burst, q.tokens + q.rate_per_s * extract(epoch from clock_timestamp() - q.refilled_at))::double precision
           as allowance
  from lockgate.queues q
 where q.name = $1
   for no key update skip locked
