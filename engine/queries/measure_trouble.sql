-- What the leader reports of what is wrong, and of the tables. Every kind of trouble is told, also when there is none of it.
with stuck as materialized (select s.kind from lockgate.v_stuck s)
select 'lockgate.stuck' as gauge, k.kind as label, count(s.kind)::float8 as value
  from unnest($1::text[]) k (kind) left join stuck s on s.kind = k.kind
 group by k.kind
union all
select 'lockgate.schedules.overdue', '', count(*) from stuck s where s.kind = 'schedule_late'
union all
select 'lockgate.schedules.with_problem', '', count(*) from stuck s where s.kind = 'schedule_broken'
union all
select 'lockgate.invariants.violated', '', count(*) from lockgate.v_invariants
union all
select 'lockgate.db.dead_rows', t."table", t.dead_rows from lockgate.v_storage t
union all
select 'lockgate.db.table.size', t."table", t.bytes from lockgate.v_storage t
