-- Deletes what was delivered of a page of a lane under its claim and reads the next one, in one round trip. Whoever lost
-- the lane deletes nothing and reads nothing. Asked again after a lost answer it finds those rows gone, which is what it
-- is for.
with held as materialized (
    -- Nobody takes the lane over before this is done.
    select l.lane
      from lockgate.outbox_lanes l
     where l.lane = $1 and l.claim_token = $2 and l.claim_id = $3
       for share
), delivered as (
    delete from lockgate.outbox o
     where o.seq = any ($4::bigint[]) and o.lane = (select lane from held)
), page as (
    select o.*, sum(octet_length(o.payload)) over (order by o.not_before, o.seq) - octet_length(o.payload) as before
      from (select o.seq, o.not_before, o.message_id, o.key, o.headers, o.payload
              from lockgate.outbox o
             where o.lane = (select lane from held) and o.route = $5
               and o.not_before <= (select clock_timestamp())
               and (o.not_before, o.seq) > (coalesce($6::timestamptz, '-infinity'), $7::bigint)
             order by o.not_before, o.seq
             limit $8) o
)
select exists (select from held) as held,
       p.seq, nullif(p.not_before, '-infinity') as not_before, p.message_id, p.key, p.headers::text as headers, p.payload
  from (select) one
  left join page p on p.before < $9
 order by p.not_before, p.seq
