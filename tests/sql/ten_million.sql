-- Years of history: as many runs as fill.runs says, as many batches, and all else in proportion. As a superuser.
set session_replication_role = replica;
set maintenance_work_mem = '512MB';
set synchronous_commit = off;

-- Ids in order of time, one a millisecond; the last one now.
select set_config('fill.last', (extract(epoch from clock_timestamp()) * 1000)::bigint::text, false);
create function pg_temp.run_id(n bigint) returns uuid language sql stable as $$
    select (lpad(to_hex(current_setting('fill.last')::bigint - current_setting('fill.runs')::bigint + n), 12, '0')
            || '70008000' || lpad(to_hex(n), 12, '0'))::uuid
$$;
create temp table kept_indexes as
    select i.indexdef, i.indexname, i.schemaname from pg_indexes i
     where i.schemaname = 'lockgate' and i.tablename in ('task_runs', 'run_batches', 'run_steps', 'transitions', 'signals')
       and not exists (select from pg_constraint c where c.conindid = format('%I.%I', i.schemaname, i.indexname)::regclass);
do $$
declare
    line record;
begin
    for line in select * from kept_indexes loop
        execute format('drop index %I.%I', line.schemaname, line.indexname);
    end loop;
end $$;

-- Of ten runs eight are over, one sleeps, one waits for a signal; 4,000 are held, half of them for hours, 50,000 ready, one in 2,500 is paused or
-- set aside, one in 160 of those that are over failed.
insert into lockgate.task_runs (id, workflow, status, origin_id, created_at, started_at, finished_at, wake_at, claim_token, claim_id,
    claimed_by, claimed_at, lease_until, reason, schedule, slot, queue, holds, limit_key, deadline_at, actor)
select r.id, r.workflow, r.status, r.id, r.born, r.born, case when r.status in ('completed', 'failed') then r.born + interval '2 s' end,
       case when r.status in ('completed', 'failed', 'paused', 'quarantined') or r.held or r.k = 9 then null
            when r.ready then clock_timestamp() - r.n % 600 * interval '1 s'
            else clock_timestamp() + (1 + r.n % 400) * interval '1 day' end,
       case when r.held then 2 else 1 end, case when r.held then gen_random_uuid() end, case when r.held then r.replica end,
       case when r.held then clock_timestamp() - r.n / 2 % 2 * interval '2 hours' end,
       case when r.held then clock_timestamp() + interval '1 hour' end, case when r.status in ('failed', 'paused', 'quarantined') then 'why' end,
       case when r.n % 20 = 0 then 'schedule-' || r.n % 100000 end, case when r.n % 20 = 0 then r.born end,
       case when r.n % 3 = 0 then 'queue-' || r.n % 30 end, case when r.n % 5 = 0 then 'code' end, case when r.n % 5 = 0 then 'key-' || r.n % 1000 end,
       case when r.k >= 8 and r.n % 7 = 0 then clock_timestamp() + interval '1 year' end, 'filler'
  from (select x.*, case when x.ready or x.held then 'running'
                         when x.k < 8 then case when x.n % 200 = 0 then 'failed' else 'completed' end
                         when x.n % 5000 = 9 then 'paused' when x.n % 5000 = 19 then 'quarantined' else 'suspended' end as status
          from (select n, n % 10 as k, pg_temp.run_id(n) as id, 'workflow-' || n % 40 as workflow,
                       clock_timestamp() - (current_setting('fill.runs')::bigint - n) * interval '1 s' as born,
                       n % (current_setting('fill.runs')::bigint / 50000) = 8 and n % 10 = 8 as ready,
                       n > current_setting('fill.runs')::bigint - 8000 and n % 2 = 1 and n % 10 <> 9 as held,
                       ('00000000-0000-4000-8000-0000000000' || lpad((n % 50)::text, 2, '0'))::uuid as replica
                  from generate_series(1, current_setting('fill.runs')::bigint) n) x) r;

-- One run in 5,000 is a fan-out of 5,000 batches, the last 100 of them under way: 512 batches wait, 16 are held.
create temp table fan_outs as
    select pg_temp.run_id(n) as id, n > current_setting('fill.runs')::bigint - 1000000 as under_way
      from generate_series(5000, current_setting('fill.runs')::bigint, 5000) n;
update fan_outs set under_way = id in (select id from fan_outs order by id desc limit 100);
update lockgate.task_runs r set status = 'running', finished_at = null, reason = null, wake_at = null, last_batch_seq = 5000,
       claim_id = null, claimed_by = null, claimed_at = null, lease_until = null, deadline_at = clock_timestamp() + interval '5 s'
  from fan_outs f where f.id = r.id and f.under_way;
insert into lockgate.run_steps (run_id, path, kind, status, planned_items, planned_batches, planned_at, started_at, finished_at)
select f.id, '0:items', 'fan_out', case when f.under_way then 'open' else 'completed' end, 5000000, 5000, clock_timestamp(),
       clock_timestamp() - interval '1 hour', case when not f.under_way then clock_timestamp() end
  from fan_outs f;
-- What has been held for hours records something now and then.
insert into lockgate.run_steps (run_id, path, kind, status, started_at, finished_at)
select r.id, n || ':work', 'step', 'completed', clock_timestamp() - interval '2 hours', clock_timestamp() - (500 - n) * interval '1 s'
  from (select id from lockgate.task_runs where claimed_at < clock_timestamp() - interval '1 hour' limit 1000) r cross join generate_series(1, 500) n;
insert into lockgate.run_batches (run_id, seq, step, status, first_id, last_id, n_items, claim_token, claim_id, claimed_by, lease_until,
    delivered, refused, unknown, skipped, vanished, finished_at)
select b.id, b.seq, '0:items', b.status, b.seq * 1000 - 999, b.seq * 1000, 1000, case when b.status = 'free' then 0 else 1 end,
       case when b.status <> 'free' then gen_random_uuid() end, case when b.status <> 'free' then gen_random_uuid() end,
       case when b.status = 'claimed' then clock_timestamp() + interval '1 hour' end,
       case when b.status = 'done' then 999 end, case when b.status = 'done' then 1 end, case when b.status = 'done' then 0 end,
       case when b.status = 'done' then 0 end, case when b.status = 'done' then 0 end,
       case when b.status = 'done' then clock_timestamp() - (5000 - b.seq) * interval '0.01 s' end
  from (select f.id, seq, case when not f.under_way or seq <= 4472 then 'done' when seq <= 4488 then 'claimed' else 'free' end as status
          from fan_outs f cross join generate_series(1, 5000) seq) b
 order by b.id, b.seq;

-- What waits for a signal or sleeps has a step that is open.
insert into lockgate.run_steps (run_id, path, kind, status, started_at)
select r.id, '0:wait', case when r.wake_at is null then 'signal' else 'sleep' end, 'open', r.started_at
  from lockgate.task_runs r where r.status = 'suspended';

insert into lockgate.transitions (at, entity, run_id, from_status, to_status, token, since, replica, actor)
select clock_timestamp() - (current_setting('fill.runs')::bigint - n) * interval '1 s', 'run', pg_temp.run_id(n),
       case k when 1 then null when 2 then 'running' else 'suspended' end, case k when 1 then 'queued' when 2 then 'suspended' else 'completed' end,
       case when k > 1 then k - 1 end, case when k > 1 then clock_timestamp() end, gen_random_uuid(), case k when 1 then 'filler' end
  from generate_series(1, current_setting('fill.runs')::bigint) n cross join generate_series(1, 2) k;
insert into lockgate.transitions (at, entity, run_id, batch_seq, from_status, to_status, token)
select clock_timestamp(), 'batch', f.id, seq, 'claimed', 'done', 1 from fan_outs f cross join generate_series(1, 2500) seq;
insert into lockgate.transitions (at, entity, key, to_status, term, reason)
select clock_timestamp() - (100000 - n) * interval '1 minute', 'leader', 'engine', 'elected', n, 'the lease before ended at 2026-01-01T00:00:00.000000Z'
  from generate_series(1, 100000) n;
insert into lockgate.transitions (at, entity, run_id, from_status, to_status, actor, reason)
select clock_timestamp() - (100000 - n) * interval '1 minute', 'run', pg_temp.run_id(n), 'running', 'paused', 'operator', 'by hand'
  from generate_series(1, 100000) n;

insert into lockgate.undelivered_messages (command_type, id, message_id, run_id, step, batch_seq, item_id, status, reason_code, reason, topic,
    next_attempt_at, created_at, kafka_partition, kafka_offset, finished_at, claim_id, claimed_by, lease_until, claim_token)
select case when n % 2 = 0 then 'email' else 'other' end, gen_random_uuid(), gen_random_uuid(), pg_temp.run_id(5000 * (1 + n % (current_setting('fill.runs')::bigint / 5000))),
       '0:items', 1 + n / (current_setting('fill.runs')::bigint / 5000), 1000 * (1 + n / (current_setting('fill.runs')::bigint / 5000)), s.status, 'code-' || n % 8, 'in words',
       'topic-' || n % 60, clock_timestamp() + (n % 1000) * interval '1 s', clock_timestamp() - n * interval '1 s',
       case when s.status = 'delivered' then 0 end, case when s.status = 'delivered' then n end, case when s.status = 'delivered' then clock_timestamp() end,
       case when s.status = 'claimed' then gen_random_uuid() end, case when s.status = 'claimed' then gen_random_uuid() end,
       case when s.status = 'claimed' then clock_timestamp() + interval '1 hour' end, 1
  from generate_series(1, current_setting('fill.runs')::bigint / 10) n
 cross join lateral (select (array['due', 'due', 'due', 'due', 'due', 'delivered', 'delivered', 'refused', 'dead', 'due'])[1 + n % 10] as status
                    from (values (n % 1000)) x (k) where x.k <> 999
                  union all select 'claimed' where n % 1000 = 999) s;

insert into lockgate.schedules (name, workflow, cron, next_slot, last_slot, created_at)
select 'schedule-' || n, 'workflow-' || n % 40, '0 3 * * *', clock_timestamp() + (1 + n % 1440) * interval '1 minute', clock_timestamp(),
       clock_timestamp() - interval '10 years'
  from generate_series(1, current_setting('fill.runs')::bigint / 100) n;
insert into lockgate.outbox (command_type, message_id, route, key, payload, not_before)
select 'email', gen_random_uuid(), 'topic-' || n % 20, convert_to((n % 5000)::text, 'UTF8'), '{}',
       case when n % 4 = 0 then clock_timestamp() + interval '1 day' when n % 4 = 1 then clock_timestamp() - interval '1 s' else '-infinity' end
  from generate_series(1, current_setting('fill.runs')::bigint / 10) n;
insert into lockgate.inbox_dead (consumer, topic, kafka_partition, kafka_offset, made_at, reason_code, reason, header_names, header_values, payload)
select 'consumer-' || n % 5, 'topic-' || n % 60, 0, n, clock_timestamp(), 'code-' || n % 8, 'in words', '{}', '{}', ''
  from generate_series(1, current_setting('fill.runs')::bigint / 100) n;

insert into lockgate.replicas (id, version, roles, workflows, stale_after, seen_at, breakers)
select ('00000000-0000-4000-8000-0000000000' || lpad(n::text, 2, '0'))::uuid, '0.1.0', '{leader,worker}', array(select 'workflow-' || w from generate_series(0, 39) w),
       case when n < 50 then interval '1 day' else interval '1 s' end, clock_timestamp() - interval '2 s',
       '[{"topic": "topic-3", "state": "open", "since": "2026-01-01T00:00:00Z", "reason": "away"}]'
  from generate_series(0, 99) n;
insert into lockgate.leader_lease (name, term, holder, elected_at, expires_at)
values ('engine', 100000, '00000000-0000-4000-8000-000000000001', clock_timestamp(), clock_timestamp() + interval '1 day');
insert into lockgate.replica_minutes
select date_trunc('minute', (select clock_timestamp())) - m * interval '1 minute', ('00000000-0000-4000-8000-0000000000' || lpad(r::text, 2, '0'))::uuid,
       clock_timestamp() - interval '20 days', 1000000 - m, 0, 0, 0, 1000000 - m, 1000000 - m, 0, 1000000 - m, 0, 0, 0, 0, 0, 0
  from generate_series(0, least(current_setting('fill.runs')::bigint / 500, 20160)) m cross join generate_series(0, 49) r;
insert into lockgate.queues (name, max_running, max_per_key, fair, actor)
select 'queue-' || 3 * n, 1000, 10, n % 2 = 0, 'filler' from generate_series(0, 9) n;

do $$
declare
    line record;
begin
    for line in select * from kept_indexes loop
        execute line.indexdef;
    end loop;
end $$;
set session_replication_role = origin;
vacuum analyze;
