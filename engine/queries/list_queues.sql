-- All queues that matter, or the one of a name.
select jsonb_build_object(
    'name', q.name, 'waiting', q.waiting, 'later', q.later, 'running', q.running, 'holding', q.holding,
    'oldest_wait_s', extract(epoch from q.oldest_wait), 'max_running', q.max_running, 'max_per_key', q.max_per_key,
    'rate_per_s', q.rate_per_s, 'burst', q.burst, 'tokens', q.tokens, 'fair', q.fair, 'holds', q.holds,
    'max_attempt_s', extract(epoch from q.max_attempt), 'paused_at', q.paused_at, 'paused_by', q.paused_by,
    'pause_reason', q.pause_reason, 'actor', q.actor, 'updated_at', q.updated_at)
  from lockgate.list_queues($1) q
 where $1::text is null or q.updated_at is not null or q.waiting + q.later + q.running > 0
