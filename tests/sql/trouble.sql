-- What goes wrong by and by, made at once: for dashboards that show nothing while all is well.
insert into lockgate.undelivered_messages (command_type, id, message_id, status, reason_code, reason, topic, created_at, next_attempt_at)
values ('email', gen_random_uuid(), gen_random_uuid(), 'due', 'timed_out', 'no answer', 'email_commands',
        clock_timestamp() - interval '1 hour', clock_timestamp() - interval '1 hour'),
       ('email', gen_random_uuid(), gen_random_uuid(), 'dead', 'timed_out', 'no answer', 'email_commands', clock_timestamp(), clock_timestamp());
insert into lockgate.outbox (command_type, message_id, route, payload)
values ('letter', gen_random_uuid(), 'letter', '\x00');
insert into lockgate.inbox_dead (consumer, topic, kafka_partition, kafka_offset, made_at, reason_code, reason, header_names,
    header_values, payload)
values ('mails', 'email_commands', 0, 1, clock_timestamp(), 'no_message_id', 'it has no message id', '{}', '{}', '\x00');
insert into lockgate.schedules (name, workflow, cron, problem) values ('broken', 'daily-task-reports', '0 3 * * *', 'nobody knows it');
-- Replicas that are gone, as if they had died this moment with a breaker open.
update lockgate.replicas
   set stopped_at = null, seen_at = clock_timestamp(),
       breakers = jsonb_build_array(jsonb_build_object('topic', 'email_commands', 'state', 'open', 'since', clock_timestamp(),
           'reason', 'topic_missing'));
