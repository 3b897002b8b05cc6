-- A million rows in each table that is claimed from, swept or looked through for what is due, of which none is: sleeping
-- and finished runs, batches that wait for their time, are held or done, messages that are retried later or were given up.
-- One run, 00000000-0000-7000-8000-000000000000, is under way, with the plan that the queries ask about.
set session_replication_role = replica;
insert into lockgate.task_runs (id, workflow, status, origin_id, wake_at, deadline_at, finished_at)
select id, 'chaos-items', case when over then 'completed' else 'suspended' end, id,
       case when not over then clock_timestamp() + interval '1 day' end, clock_timestamp() + interval '2 days',
       case when over then clock_timestamp() end
  from (select format('00000000-0000-7000-8000-%s', lpad(n::text, 12, '0'))::uuid as id, n % 2 = 0 as over
          from generate_series(1, 1000000) n) r;
insert into lockgate.task_runs (id, workflow, status, origin_id, claim_token, claim_id, claimed_by, lease_until)
values ('00000000-0000-7000-8000-000000000000', 'chaos-items', 'running', gen_random_uuid(), 1,
        '00000000-0000-4000-8000-000000000001', gen_random_uuid(), clock_timestamp() + interval '1 day');
insert into lockgate.run_steps (run_id, path, kind, status, planned_at)
select id, '0:items', 'fan_out', case when finished_at is null then 'open' else 'completed' end, clock_timestamp()
  from lockgate.task_runs
 where status <> 'suspended';
-- Half of them of the run that is under way; as many are held as by thirty replicas.
insert into lockgate.run_batches (run_id, seq, step, status, first_id, last_id, n_items, not_before, claim_token, claim_id,
    claimed_by, lease_until, delivered)
select format('00000000-0000-7000-8000-%s', lpad(case when n % 2 = 0 then 0 else 2 * (n % 500) + 2 end::text, 12, '0'))::uuid,
       n, '0:items', status, n * 1000, n * 1000 + 999, 1000,
       case when status = 'free' then clock_timestamp() + interval '1 day' else '-infinity'::timestamptz end, 1,
       case when status <> 'free' then format('00000000-0000-4000-8000-%s', lpad(n::text, 12, '0'))::uuid end,
       case when status <> 'free' then gen_random_uuid() end,
       case when status = 'claimed' then clock_timestamp() + interval '1 day' end, case when status = 'done' then 1000 end
  from (select n, case when n <= 960 and n % 2 = 0 then 'claimed' when n % 4 < 2 and n % 2 = 0 then 'free' else 'done' end as status
          from generate_series(1, 1000000) n) b;
insert into lockgate.undelivered_messages (command_type, id, message_id, status, reason_code, reason, topic, next_attempt_at)
select case when n % 10 = 0 then 'sms' else 'email' end, gen_random_uuid(), gen_random_uuid(),
       case when n % 2 = 0 then 'due' else 'dead' end, 'timed_out', 'timed out', 'topic_' || n % 3,
       clock_timestamp() + interval '1 day'
  from generate_series(1, 1000000) n;
insert into lockgate.schedules (name, workflow, cron, next_slot)
select 'schedule_' || n, 'chaos-items', '0 3 * * *', clock_timestamp() + interval '1 day'
  from generate_series(1, 100000) n;
-- On four routes, and in all lanes.
-- Three routes in sixteen lanes: due_routes looks at each of these pairs once, however many rows there are.
insert into lockgate.outbox (command_type, message_id, route, key, payload, not_before)
select 'note', gen_random_uuid(), case when n % 3 = 0 then ':note' else 'topic_' || n % 3 end, n::text::bytea, '{}',
       clock_timestamp() + interval '1 day'
  from generate_series(1, 1000000) n;
update lockgate.outbox_lanes
   set claim_token = 1, claim_id = '00000000-0000-4000-8000-000000000003', claimed_by = gen_random_uuid(),
       lease_until = clock_timestamp() + interval '1 day'
 where lane = 3;
set session_replication_role = origin;
vacuum analyze lockgate.task_runs, lockgate.run_steps, lockgate.run_batches, lockgate.undelivered_messages, lockgate.schedules,
    lockgate.outbox;
