-- The lanes of the outbox; of each route in one as many commands are counted as v_outbox_health counts.
select jsonb_build_object(
    'lane', o.lane, 'waiting', sum(o.waiting), 'delayed', sum(o.delayed), 'oldest', min(o.oldest), 'holder', o.holder,
    'lease_until', o.lease_until, 'last_error', o.last_error)
  from lockgate.v_outbox_health o
 group by o.lane, o.holder, o.lease_until, o.last_error
 order by o.lane
