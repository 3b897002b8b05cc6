-- Which of the roles for people the connected one is or is a member of; no row: it may be a replica's, or the owner's.
select to_jsonb(p.rolname::text)
  from pg_catalog.pg_roles p
 where p.rolname in ('lockgate_operator', 'lockgate_reader') and pg_has_role(current_user, p.oid, 'member')
   and not exists (select from pg_catalog.pg_roles r
                    where r.rolname in ('lockgate_engine', 'lockgate_owner') and pg_has_role(current_user, r.oid, 'member'))
 order by p.rolname
 limit 1
