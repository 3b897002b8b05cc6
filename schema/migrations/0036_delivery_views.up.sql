-- Views of what is delivered and what is not, of speed, and of the database; see 0035.

drop view lockgate.v_outbox;

create view lockgate.v_undelivered as
select s.status,
       least(c.n, 10000) as messages,
       c.n > 10000 as capped,
       o.oldest,
       extract(epoch from statement_timestamp() - o.oldest)::float8 as oldest_age_s
  from (values ('due'), ('claimed'), ('refused'), ('dead')) s (status)
 cross join lateral (
     select count(*) as n
       from (select from lockgate.undelivered_messages m where m.status = s.status
              order by m.status, m.created_at limit 10001) x) c
 cross join lateral (
     select min(x.created_at) as oldest
       from (select m.created_at from lockgate.undelivered_messages m where m.status = s.status
              order by m.status, m.created_at limit 1) x) o;
comment on view lockgate.v_undelivered is 'Messages that Kafka did not take, by state. Whole';
comment on column lockgate.v_undelivered.status is 'due, claimed, refused or dead';
comment on column lockgate.v_undelivered.messages is 'How many, counted up to 10,000';
comment on column lockgate.v_undelivered.capped is 'Whether there are more than counted';
comment on column lockgate.v_undelivered.oldest is 'When the oldest of them was stored';
comment on column lockgate.v_undelivered.oldest_age_s is 'The same in seconds from then to now';

create view lockgate.v_undelivered_topics as
with recursive topics as (
    (select m.topic, m.next_attempt_at, 1 as number from lockgate.undelivered_messages m
      where m.status = 'due' order by m.topic, m.next_attempt_at limit 1)
    union all
    select x.topic, x.next_attempt_at, t.number + 1
      from topics t
     cross join lateral (
         select m.topic, m.next_attempt_at from lockgate.undelivered_messages m
          where m.status = 'due' and m.topic > t.topic order by m.topic, m.next_attempt_at limit 1) x
     where t.number < 200
)
select t.topic,
       least(c.n, 1000) as due,
       c.n > 1000 as capped,
       t.next_attempt_at as first_due,
       greatest(extract(epoch from statement_timestamp() - t.next_attempt_at), 0)::float8 as overdue_s,
       exists (select from lockgate.replicas p cross join lateral jsonb_to_recordset(p.breakers) b (topic text)
                where p.stopped_at is null and p.seen_at + p.stale_after > (select clock_timestamp())
                  and b.topic = t.topic) as breaker_open
  from topics t
 cross join lateral (
     select count(*) as n
       from (select from lockgate.undelivered_messages m where m.status = 'due' and m.topic = t.topic
              order by m.topic, m.next_attempt_at limit 1001) x) c;
comment on view lockgate.v_undelivered_topics is 'Messages that are to be sent again, by topic: the first 200 topics. Whole';
comment on column lockgate.v_undelivered_topics.topic is 'Where they go';
comment on column lockgate.v_undelivered_topics.due is 'How many, counted up to 1,000';
comment on column lockgate.v_undelivered_topics.capped is 'Whether there are more than counted';
comment on column lockgate.v_undelivered_topics.first_due is 'When the first of them is to be sent';
comment on column lockgate.v_undelivered_topics.overdue_s is 'Seconds since then; 0: that is still to come';
comment on column lockgate.v_undelivered_topics.breaker_open is 'Whether a replica does not send to it at present';

create view lockgate.v_undelivered_reasons as
select s.status,
       x.topic,
       x.command_type,
       x.reason_code,
       count(*) as messages,
       max(x.created_at) as newest,
       min(x.created_at) as oldest
  from (values ('due'), ('refused'), ('dead')) s (status)
 cross join lateral (
     select m.topic, m.command_type, m.reason_code, m.created_at from lockgate.undelivered_messages m
      where m.status = s.status order by m.status desc, m.created_at desc limit 5000) x
 group by s.status, x.topic, x.command_type, x.reason_code;
comment on view lockgate.v_undelivered_reasons is 'Why messages were not taken: the newest 5,000 of each state. Whole';
comment on column lockgate.v_undelivered_reasons.status is 'due, refused or dead';
comment on column lockgate.v_undelivered_reasons.topic is 'Where they go';
comment on column lockgate.v_undelivered_reasons.command_type is 'Kind of command, such as email';
comment on column lockgate.v_undelivered_reasons.reason_code is 'Why, from a closed set';
comment on column lockgate.v_undelivered_reasons.messages is 'How many of the newest 5,000 of the state';
comment on column lockgate.v_undelivered_reasons.newest is 'When the newest of them was stored';
comment on column lockgate.v_undelivered_reasons.oldest is 'When the oldest of those counted was stored';

create view lockgate.v_outbox_health as
with recursive pairs as (
    (select o.lane, o.route, 1 as number from lockgate.outbox o order by o.lane, o.route limit 1)
    union all
    select x.lane, x.route, p.number + 1
      from pairs p
     cross join lateral (
         select o.lane, o.route from lockgate.outbox o
          where (o.lane, o.route) > (p.lane, p.route) order by o.lane, o.route limit 1) x
     where p.number < 100
)
select l.lane,
       p.route,
       least(w.n, 500) as waiting,
       w.n > 500 as capped,
       least(d.n, 500) as delayed,
       f.oldest,
       extract(epoch from statement_timestamp() - f.oldest)::float8 as oldest_age_s,
       l.claimed_by as holder,
       l.lease_until,
       l.last_error
  from lockgate.outbox_lanes l
  left join pairs p on p.lane = l.lane
 cross join lateral (
     select count(*) as n
       from (select from lockgate.outbox o
              where o.lane = p.lane and o.route = p.route and o.not_before <= (select clock_timestamp()) limit 501) x) w
 cross join lateral (
     select count(*) as n
       from (select from lockgate.outbox o
              where o.lane = p.lane and o.route = p.route and o.not_before > (select clock_timestamp()) limit 501) x) d
 -- The first of those that never had to wait, and the first of those that have.
 cross join lateral (
     select min(x.since) as oldest
       from ((select o.created_at as since from lockgate.outbox o
               where o.lane = p.lane and o.route = p.route and o.not_before = '-infinity' order by o.not_before, o.seq limit 1)
             union all
             (select greatest(o.created_at, o.not_before) from lockgate.outbox o
               where o.lane = p.lane and o.route = p.route and o.not_before > '-infinity'
                 and o.not_before <= (select clock_timestamp()) order by o.not_before, o.seq limit 1)) x) f;
comment on view lockgate.v_outbox_health is 'Commands that were committed and are not sent yet, by lane and route: the first 100 pairs, and every lane. Whole; alert on oldest_age_s';
comment on column lockgate.v_outbox_health.lane is 'A sixteenth of the outbox, by key';
comment on column lockgate.v_outbox_health.route is
    'Their topic, or : and their type when the configuration names the topic; null: nothing is in the lane';
comment on column lockgate.v_outbox_health.waiting is 'Commands that may go now, counted up to 500';
comment on column lockgate.v_outbox_health.capped is 'Whether there are more than counted';
comment on column lockgate.v_outbox_health.delayed is 'Commands that are to wait longer, counted up to 500';
comment on column lockgate.v_outbox_health.oldest is 'Since when the first that may go waits';
comment on column lockgate.v_outbox_health.oldest_age_s is 'The same in seconds';
comment on column lockgate.v_outbox_health.holder is 'Replica that sends the lane';
comment on column lockgate.v_outbox_health.lease_until is 'When its claim ends';
comment on column lockgate.v_outbox_health.last_error is 'What the lane''s last holder met; null: all went well';

create view lockgate.v_inbox_dead as
select d.consumer,
       d.topic,
       d.reason_code,
       count(*) as records,
       max(d.received_at) as newest
  from (select x.consumer, x.topic, x.reason_code, x.received_at from lockgate.inbox_dead x
         order by x.received_at desc limit 5000) d
 group by d.consumer, d.topic, d.reason_code;
comment on view lockgate.v_inbox_dead is 'Records that consumers could do nothing with: the newest 5,000. Whole';
comment on column lockgate.v_inbox_dead.consumer is 'Who could do nothing with them';
comment on column lockgate.v_inbox_dead.topic is 'Where they were read';
comment on column lockgate.v_inbox_dead.reason_code is 'Why, from a closed set';
comment on column lockgate.v_inbox_dead.records is 'How many of the newest 5,000';
comment on column lockgate.v_inbox_dead.newest is 'When the last of them came';

create view lockgate.v_breakers as
select r.id as replica,
       b.topic,
       b.state,
       b.since,
       b.reason
  from lockgate.replicas r
 cross join lateral jsonb_to_recordset(r.breakers) b (topic text, state text, since timestamptz, reason text)
 where r.stopped_at is null and r.seen_at + r.stale_after > (select clock_timestamp());
comment on view lockgate.v_breakers is 'Breakers of live replicas that are not closed. Whole';
comment on column lockgate.v_breakers.replica is 'Whose it is';
comment on column lockgate.v_breakers.topic is 'The topic to which it does not send, or only tries';
comment on column lockgate.v_breakers.state is 'open, or half_open: it tries';
comment on column lockgate.v_breakers.since is 'Since when';
comment on column lockgate.v_breakers.reason is 'What it met';

create view lockgate.v_throughput_1m as
select t.time,
       t.whole,
       t.replicas,
       t.items_delivered, t.items_refused, t.items_unknown, t.items_passed_over, t.batches,
       t.runs_completed, t.runs_failed, t.steps, t.commands_delivered, t.commands_stored,
       t.outbox_delivered, t.redelivered, t.dead, t.leases_lost,
       t.items_delivered_per_s, t.items_refused_per_s, t.items_unknown_per_s, t.batches_per_s,
       t.runs_completed_per_s, t.runs_failed_per_s, t.steps_per_s, t.commands_delivered_per_s,
       t.commands_stored_per_s, t.outbox_delivered_per_s, t.redelivered_per_s, t.dead_per_s
  from lockgate.throughput(statement_timestamp() - interval '3 hours', statement_timestamp()) t;
comment on view lockgate.v_throughput_1m is 'What was done in each minute of the last three hours; other times: the function throughput. Whole';
comment on column lockgate.v_throughput_1m."time" is 'When the minute began';
comment on column lockgate.v_throughput_1m.whole is 'Whether nothing of it is still to come';
comment on column lockgate.v_throughput_1m.replicas is 'Replicas that counted in it';
comment on column lockgate.v_throughput_1m.items_delivered is 'Items of fan-outs that Kafka acknowledged';
comment on column lockgate.v_throughput_1m.items_refused is 'Items that can never go as they are';
comment on column lockgate.v_throughput_1m.items_unknown is 'Items stored because nobody knows whether they went';
comment on column lockgate.v_throughput_1m.items_passed_over is 'Items that were skipped or had vanished';
comment on column lockgate.v_throughput_1m.batches is 'Batches finished';
comment on column lockgate.v_throughput_1m.runs_completed is 'Runs that completed';
comment on column lockgate.v_throughput_1m.runs_failed is 'Runs that failed, were cancelled or set aside';
comment on column lockgate.v_throughput_1m.steps is 'Steps recorded';
comment on column lockgate.v_throughput_1m.commands_delivered is 'Direct commands acknowledged';
comment on column lockgate.v_throughput_1m.commands_stored is 'Direct commands stored instead';
comment on column lockgate.v_throughput_1m.outbox_delivered is 'Commands of the outbox acknowledged';
comment on column lockgate.v_throughput_1m.redelivered is 'Undelivered messages acknowledged';
comment on column lockgate.v_throughput_1m.dead is 'Undelivered messages given up';
comment on column lockgate.v_throughput_1m.leases_lost is 'Leases that ended under their holders';
comment on column lockgate.v_throughput_1m.items_delivered_per_s is 'Items of fan-outs that Kafka acknowledged, a second';
comment on column lockgate.v_throughput_1m.items_refused_per_s is 'Items that can never go as they are, a second';
comment on column lockgate.v_throughput_1m.items_unknown_per_s is
    'Items stored because nobody knows whether they went, a second';
comment on column lockgate.v_throughput_1m.batches_per_s is 'Batches finished, a second';
comment on column lockgate.v_throughput_1m.runs_completed_per_s is 'Runs that completed, a second';
comment on column lockgate.v_throughput_1m.runs_failed_per_s is 'Runs that failed, were cancelled or set aside, a second';
comment on column lockgate.v_throughput_1m.steps_per_s is 'Steps recorded, a second';
comment on column lockgate.v_throughput_1m.commands_delivered_per_s is 'Direct commands acknowledged, a second';
comment on column lockgate.v_throughput_1m.commands_stored_per_s is 'Direct commands stored instead, a second';
comment on column lockgate.v_throughput_1m.outbox_delivered_per_s is 'Commands of the outbox acknowledged, a second';
comment on column lockgate.v_throughput_1m.redelivered_per_s is 'Undelivered messages acknowledged, a second';
comment on column lockgate.v_throughput_1m.dead_per_s is 'Undelivered messages given up, a second';

create view lockgate.v_snapshots as
select s.kind,
       s.pid,
       s.who,
       s.application,
       s.state,
       s.since,
       s.age_s,
       s.xmin_age
  from lockgate.old_snapshots('1 minute') s;
comment on view lockgate.v_snapshots is 'What keeps deleted rows from being cleared away for more than a minute. Whole';
comment on column lockgate.v_snapshots.kind is 'session, prepared (transaction) or slot (of replication)';
comment on column lockgate.v_snapshots.pid is 'Process of the server';
comment on column lockgate.v_snapshots.who is 'Role or owner; of a slot its type';
comment on column lockgate.v_snapshots.application is 'What it calls itself';
comment on column lockgate.v_snapshots.state is 'What it does';
comment on column lockgate.v_snapshots.since is 'Since when its transaction runs';
comment on column lockgate.v_snapshots.age_s is 'The same in seconds';
comment on column lockgate.v_snapshots.xmin_age is 'How many transactions have begun since';

create view lockgate.v_storage as
select s.relname::text as "table",
       s.n_live_tup as rows,
       s.n_dead_tup as dead_rows,
       s.last_autovacuum,
       s.last_autoanalyze,
       pg_total_relation_size(s.relid) as bytes
  from pg_catalog.pg_stat_user_tables s where s.schemaname = 'lockgate';
comment on view lockgate.v_storage is 'Tables: how many rows, how many of them dead, how many bytes. Whole';
comment on column lockgate.v_storage."table" is 'The table';
comment on column lockgate.v_storage.rows is 'Rows, as the server estimates';
comment on column lockgate.v_storage.dead_rows is 'Rows that are deleted or replaced and not cleared away yet';
comment on column lockgate.v_storage.last_autovacuum is 'When they were cleared away last';
comment on column lockgate.v_storage.last_autoanalyze is 'When its statistics were made last';
comment on column lockgate.v_storage.bytes is 'With its indexes';

do $$
declare
    role text;
begin
    revoke all on lockgate.v_undelivered, lockgate.v_undelivered_topics, lockgate.v_undelivered_reasons,
            lockgate.v_outbox_health, lockgate.v_inbox_dead, lockgate.v_breakers, lockgate.v_throughput_1m,
            lockgate.v_snapshots, lockgate.v_storage from public;
    for role in select rolname from pg_roles where rolname in ('lockgate_engine', 'lockgate_operator', 'lockgate_reader') loop
        execute format('grant select on lockgate.v_undelivered, lockgate.v_undelivered_topics, lockgate.v_undelivered_reasons,
            lockgate.v_outbox_health, lockgate.v_inbox_dead, lockgate.v_breakers, lockgate.v_throughput_1m,
            lockgate.v_snapshots, lockgate.v_storage to %I', role);
    end loop;
end $$;
