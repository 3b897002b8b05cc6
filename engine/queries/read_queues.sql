-- What is set for queues, as far as whoever claims from them needs to know.
select q.name, q.paused_at is not null or q.max_running is not null or q.max_per_key is not null or q.rate_per_s is not null
           or q.fair as limited,
       extract(epoch from q.max_attempt)::double precision as max_attempt
  from lockgate.queues q
 order by q.name
 limit 100000
