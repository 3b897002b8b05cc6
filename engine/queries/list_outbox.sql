-- The lanes of the outbox.
select to_jsonb(o) from lockgate.v_outbox o order by o.lane
