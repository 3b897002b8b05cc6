-- The gate of a limited queue: whoever has its row claims, others come again. Statements after this one see what was
-- claimed before. What they want in an order they take from the index that has it: where a plan is made while nothing waits, to
-- sort nothing looks as cheap, and that plan would sort all that waits later, for each tenant and key. A sort that is needed all
-- the same then looks so dear that it would be compiled.
select q.paused_at is not null as paused, q.fair, q.max_per_key is not null as per_key, q.rate_per_s,
       least(q.burst, q.tokens + q.rate_per_s * extract(epoch from clock_timestamp() - q.refilled_at))::double precision
           as allowance,
       set_config('enable_sort', 'off', true) as in_order, set_config('jit', 'off', true) as uncompiled
  from lockgate.queues q
 where q.name = $1
   for no key update skip locked
