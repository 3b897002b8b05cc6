-- Moves a held schedule on, never back, and keeps why slots were passed over.
with moved as (
    update lockgate.schedules
       set last_slot = greatest(last_slot, $2), next_slot = coalesce($3::timestamptz, 'infinity'), problem = null
     where name = $1
    returning name
)
insert into lockgate.transitions (entity, key, from_status, to_status, term, replica, reason)
select 'schedule', moved.name, 'due', 'passed_over', $5, $6, passed.reason
  from moved cross join unnest($4::text[]) passed (reason)
