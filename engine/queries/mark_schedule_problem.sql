-- Sets a schedule aside that cannot fire, until it is edited; true when that is news.
with term as materialized (
    select 1
      from lockgate.leader_lease
     where name = 'engine' and term = $1 and holder = $2 and expires_at > clock_timestamp()
       for share
), held as (
    select s.name, s.problem
      from lockgate.schedules s
     where exists (select 1 from term) and s.name = $3 and s.revision = $4
       for no key update of s skip locked
), marked as (
    update lockgate.schedules s
       set problem = $5, next_slot = 'infinity'
      from held
     where s.name = held.name
    returning s.name, held.problem is distinct from $5 as news
), audit as (
    insert into lockgate.transitions (entity, key, from_status, to_status, term, replica, reason)
    select 'schedule', name, 'active', 'problem', $1, $2, $5 from marked where news
)
select coalesce(bool_or(news), false) from marked
