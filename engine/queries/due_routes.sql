-- What is due, by lane and route, the lane that was claimed longest ago first; one look into the index for each pair.
-- Behind ($1, $2) only, and at most 2,000 pairs: whoever invents topics without end holds nobody up, since the next look
-- goes on behind the last pair of this one, which is told apart.
with recursive routes as (
    (select o.lane, o.route, o.not_before, 1 as number
       from lockgate.outbox o
      where (o.lane, o.route) > ($1::smallint, $2::text)
      order by o.lane, o.route, o.not_before
      limit 1)
    union all
    select x.lane, x.route, x.not_before, r.number + 1
      from routes r
     cross join lateral (
         select o.lane, o.route, o.not_before
           from lockgate.outbox o
          where (o.lane, o.route) > (r.lane, r.route)
          order by o.lane, o.route, o.not_before
          limit 1) x
     where r.number < 2000
)
select r.lane, r.route, l.lease_until is null or l.lease_until < (select clock_timestamp()) as free, d.is_last
  from routes r
  join lockgate.outbox_lanes l on l.lane = r.lane
 cross join lateral (
     select false as is_last where r.not_before <= (select clock_timestamp())
     union all
     select true where r.number = 2000) d
 order by d.is_last, l.claimed_at nulls first, r.lane, r.route
