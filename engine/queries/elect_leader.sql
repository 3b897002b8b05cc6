-- Takes the lease when it is over, or when it is this holder's own (whose answer was lost). Everybody else only reads.
-- The row lock makes it wait for writes of the old term; the audit keeps when that term ended, to check that none overlap.
with ended as (
    select l.term, case when l.holder = $1 then least(l.expires_at, clock_timestamp()) else l.expires_at end as at
      from lockgate.leader_lease l
     where l.name = 'engine' and (l.expires_at < clock_timestamp() or l.holder = $1)
       for no key update
), taken as (
    update lockgate.leader_lease l
       set term = l.term + 1, holder = $1, elected_at = clock_timestamp(),
           expires_at = clock_timestamp() + make_interval(secs => $2)
      from ended
     where l.name = 'engine' and l.term = ended.term
    returning l.term, l.elected_at, ended.at as before_ended
), first as (
    insert into lockgate.leader_lease (name, term, holder, elected_at, expires_at)
    select 'engine', 1, $1, clock_timestamp(), clock_timestamp() + make_interval(secs => $2)
     where not exists (select 1 from lockgate.leader_lease where name = 'engine')
    on conflict (name) do nothing
    returning term, elected_at, null::timestamptz as before_ended
), elected as (
    select * from taken union all select * from first
), audit as (
    insert into lockgate.transitions (at, entity, key, to_status, term, replica, reason)
    select elected_at, 'leader', 'engine', 'elected', term, $1,
           coalesce('the lease before ended at '
               || to_char(before_ended at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'), 'the first lease')
      from elected
)
select term from elected
