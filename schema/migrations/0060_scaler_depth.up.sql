-- Workers are of no use to what a limit holds back: it is not what they are scaled by.
create or replace function lockgate.scaler_depth(p_queue text default null) returns bigint
language sql stable security definer set search_path = pg_catalog, pg_temp as $$
    -- Of a limited queue what goes on in a place that it holds, and as many others as places and rate have room for.
    select coalesce((select sum(least(q.ready,
                                      case when q.max_running is not null or (q.tokens is not null and q.holds = 'code')
                                           then coalesce(greatest(q.holding - q.running, 0), 0)
                                              + greatest(least(q.max_running - q.holding, ceil(q.tokens)), 0) end))
                       from lockgate.v_queue_health q
                      where q.paused_at is null and (p_queue is null or q.queue = p_queue)), 0)::bigint
         + coalesce((select sum(w.batches)
                       from (select distinct s.run_id from lockgate.run_steps s where s.kind = 'fan_out' and s.status = 'open') o
                       join lockgate.task_runs r on r.id = o.run_id
                      cross join lateral (
                          select count(*) as batches
                            from (select from lockgate.run_batches b
                                   where b.run_id = r.id and b.status in ('free', 'recoverable')
                                     and b.not_before <= (select clock_timestamp()) limit 1000) x) w
                      where r.status = 'running' and r.stop_status is null
                        and (p_queue is null or coalesce(r.queue, r.workflow) = p_queue)), 0)::bigint
$$;
comment on function lockgate.scaler_depth(text) is
    'How much waits for a worker, of a queue or of all, for autoscalers: runs whose code may go on, as many as their queue''s places and rate leave room for, and batches that may be claimed, counted up to 1,000 each of a queue or run; a paused queue waits for a person';

comment on view lockgate.v_stuck is 'What does not move, and why; empty when all is well. Whole: at most some hundred rows of a kind';
