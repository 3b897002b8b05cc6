-- A run that went well, as the engine leaves it: two batches, one of them with a refused item, under one leader's term.
insert into lockgate.task_runs (id, workflow, status, origin_id, singleton_key, schedule, slot, claim_token, last_batch_seq,
    leader_term, started_at, finished_at, output)
values ('00000000-0000-7000-8000-000000000001', 'daily', 'completed', '00000000-0000-7000-8000-000000000001', 'one',
        'nightly', '2026-11-20 03:00+00', 1, 2, 1, clock_timestamp(), clock_timestamp(), '{}');
insert into lockgate.run_steps (run_id, path, kind, status, plan_cursor, planned_items, planned_batches, planned_at, result, finished_at)
values ('00000000-0000-7000-8000-000000000001', '0:items', 'fan_out', 'completed', 20, 20, 2, clock_timestamp(), '{}', clock_timestamp());
insert into lockgate.run_batches (run_id, seq, step, status, first_id, last_id, n_items, claim_token, claim_id, claimed_by,
    delivered, refused, unknown, skipped, vanished, refused_ids, finished_at)
values ('00000000-0000-7000-8000-000000000001', 1, '0:items', 'done', 1, 10, 10, 1, gen_random_uuid(), gen_random_uuid(),
        10, 0, 0, 0, 0, null, clock_timestamp()),
       ('00000000-0000-7000-8000-000000000001', 2, '0:items', 'done', 11, 20, 10, 1, gen_random_uuid(), gen_random_uuid(),
        9, 1, 0, 0, 0, '\x0102', clock_timestamp());
insert into lockgate.undelivered_messages (command_type, id, message_id, run_id, step, batch_seq, item_id, status, reason_code, reason, topic)
values ('email', gen_random_uuid(), gen_random_uuid(), '00000000-0000-7000-8000-000000000001', '0:items', 2, 13, 'refused',
        'too_large', 'too large', 'email_commands');
insert into lockgate.transitions (entity, run_id, batch_seq, key, from_status, to_status, token, term, reason, since)
values ('leader', null, null, 'engine', null, 'elected', null, 1, 'the first lease', null),
       ('run', '00000000-0000-7000-8000-000000000001', null, null, null, 'queued', null, 1, null, null),
       ('batch', '00000000-0000-7000-8000-000000000001', 1, null, 'free', 'claimed', 1, null, null, null),
       ('batch', '00000000-0000-7000-8000-000000000001', 2, null, 'free', 'claimed', 1, null, null, null),
       ('batch', '00000000-0000-7000-8000-000000000001', 1, null, 'claimed', 'done', 1, null, null, null),
       ('batch', '00000000-0000-7000-8000-000000000001', 2, null, 'claimed', 'done', 1, null,
        'delivered 9, refused 1, unknown 0, skipped 0, vanished 0', null),
       ('run', '00000000-0000-7000-8000-000000000001', null, null, 'running', 'completed', 1, null, null, clock_timestamp()),
       ('leader', null, null, 'engine', null, 'elected', null, 2, 'the lease before ended at 2026-11-20T03:00:00.000000Z', null);
