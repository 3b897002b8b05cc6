-- Ends this holder's own term now and tells those who wait.
with resigned as (
    update lockgate.leader_lease
       set expires_at = clock_timestamp()
     where name = 'engine' and term = $1 and holder = $2 and expires_at > clock_timestamp()
    returning term, expires_at
), audit as (
    insert into lockgate.transitions (at, entity, key, from_status, to_status, term, replica)
    select expires_at, 'leader', 'engine', 'elected', 'resigned', term, $2 from resigned
)
select term, pg_notify('lockgate_wake', 'leader') is null as told from resigned
