-- A run under way with an item of every fate, one that failed before it was done, and one that has not begun.
insert into lockgate.task_runs (id, workflow, status, origin_id, last_batch_seq, started_at, finished_at, reason, wake_at)
values ('00000000-0000-7000-8000-0000000000f1', 'daily-mail', 'suspended', '00000000-0000-7000-8000-0000000000f1', 5, clock_timestamp(),
        null, null, null),
       ('00000000-0000-7000-8000-0000000000f2', 'daily-mail', 'failed', '00000000-0000-7000-8000-0000000000f2', 2, clock_timestamp(),
        clock_timestamp(), 'boom', null),
       ('00000000-0000-7000-8000-0000000000f3', 'daily-mail', 'queued', '00000000-0000-7000-8000-0000000000f3', 0, null, null, null,
        clock_timestamp());
-- Planned up to item 39, and all.
insert into lockgate.run_steps (run_id, path, kind, status, plan_cursor, planned_items, planned_batches, planned_at)
values ('00000000-0000-7000-8000-0000000000f1', '0:mails', 'fan_out', 'open', 39, 23, 3, null),
       ('00000000-0000-7000-8000-0000000000f2', '0:mails', 'fan_out', 'open', 20, 20, 2, clock_timestamp());
-- Of the first 3 was refused, 4 and 5 are unknown, 6 was skipped, 7 had vanished.
insert into lockgate.run_batches (run_id, seq, step, status, first_id, last_id, n_items, parent_seq, claim_token, claim_id, claimed_by,
    lease_until, delivered, refused, unknown, skipped, vanished, refused_ids, unknown_ids, skipped_ids, vanished_ids, finished_at)
values ('00000000-0000-7000-8000-0000000000f1', 1, '0:mails', 'done', 1, 10, 10, null, 1, gen_random_uuid(),
        '01890000-0000-7000-8000-00000000000a', null, 5, 1, 2, 1, 1, '\x0102', '\x010301', '\x0105', '\x0106', clock_timestamp()),
       ('00000000-0000-7000-8000-0000000000f1', 2, '0:mails', 'claimed', 20, 29, 3, null, 1, gen_random_uuid(),
        '01890000-0000-7000-8000-00000000000a', clock_timestamp() + interval '1 hour', null, null, null, null, null, null, null, null,
        null, null),
       ('00000000-0000-7000-8000-0000000000f1', 3, '0:mails', 'split', 30, 39, 10, null, 2, null, null, null, null, null, null, null,
        null, null, null, null, null, clock_timestamp()),
       ('00000000-0000-7000-8000-0000000000f1', 4, '0:mails', 'recoverable', 30, 34, 5, 3, 0, null, null, null, null, null, null, null,
        null, null, null, null, null, null),
       ('00000000-0000-7000-8000-0000000000f1', 5, '0:mails', 'recoverable', 35, 39, 5, 3, 0, null, null, null, null, null, null, null,
        null, null, null, null, null, null),
       ('00000000-0000-7000-8000-0000000000f2', 1, '0:mails', 'free', 1, 10, 10, null, 0, null, null, null, null, null, null, null,
        null, null, null, null, null, null);
-- Of a batch that was under way the first item is acknowledged.
insert into lockgate.run_batches (run_id, seq, step, status, first_id, last_id, n_items, claim_token, delivered_bits)
values ('00000000-0000-7000-8000-0000000000f2', 2, '0:mails', 'free', 11, 20, 10, 1, '\x01');
-- 20, 22 and 29.
insert into lockgate.run_batch_ids (run_id, seq, ids) values ('00000000-0000-7000-8000-0000000000f1', 2, '\x01000207');
insert into lockgate.undelivered_messages (command_type, id, message_id, run_id, step, batch_seq, item_id, status, reason_code, reason, topic)
select 'email', gen_random_uuid(), gen_random_uuid(), uuid '00000000-0000-7000-8000-0000000000f1', '0:mails', 1, u.item, u.status, u.code,
       u.words, 'email_commands'
  from (values (3, 'refused', 'too_large', 'too large'), (4, 'due', 'timed_out', 'timed out'),
               (5, 'dead', 'timed_out', 'timed out')) u (item, status, code, words);
