drop view lockgate.v_storage;
drop view lockgate.v_snapshots;
drop view lockgate.v_throughput_1m;
drop view lockgate.v_breakers;
drop view lockgate.v_inbox_dead;
drop view lockgate.v_outbox_health;
drop view lockgate.v_undelivered_reasons;
drop view lockgate.v_undelivered_topics;
drop view lockgate.v_undelivered;

create view lockgate.v_outbox as
select l.lane,
       count(o.seq) filter (where o.not_before <= clock_timestamp()) as waiting,
       count(o.seq) filter (where o.not_before > clock_timestamp()) as delayed,
       min(greatest(o.created_at, o.not_before)) filter (where o.not_before <= clock_timestamp()) as oldest,
       l.claimed_by as holder, l.lease_until, l.last_error
  from lockgate.outbox_lanes l
  left join lockgate.outbox o on o.lane = l.lane
 group by l.lane;
comment on view lockgate.v_outbox is 'The outbox by lane, for dashboards and alerts: alert on the age of oldest';
comment on column lockgate.v_outbox.lane is 'The lane';
comment on column lockgate.v_outbox.waiting is 'Commands that could be sent now';
comment on column lockgate.v_outbox.delayed is 'Commands that are to wait longer';
comment on column lockgate.v_outbox.oldest is 'Since when the first of those that could be sent waits';
comment on column lockgate.v_outbox.holder is 'Replica that sends the lane';
comment on column lockgate.v_outbox.lease_until is 'When its claim ends';
comment on column lockgate.v_outbox.last_error is 'What the last holder met';
do $$
declare
    role text;
begin
    revoke all on lockgate.v_outbox from public;
    for role in select rolname from pg_roles where rolname in ('lockgate_engine', 'lockgate_operator', 'lockgate_reader') loop
        execute format('grant select on lockgate.v_outbox to %I', role);
    end loop;
end $$;
