-- A new term looks once more at what could not fire: another binary may know a zone that the last one did not.
update lockgate.schedules
   set next_slot = null
 where problem is not null and paused_at is null
   and exists (select 1 from lockgate.leader_lease
                where name = 'engine' and term = $1 and holder = $2 and expires_at > clock_timestamp()
                  for share)
