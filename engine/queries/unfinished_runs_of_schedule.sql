-- Runs that a schedule fired, or that go on in the place of one, and that are not over, counted up to a bound, and the one of
-- the newest slot: those that go on have none and come last. Those that were started for past slots by hand are in nobody's
-- way.
select count(*) as unfinished, (array_agg(id order by slot desc nulls last, id desc))[1] as newest
  from (select id, slot from lockgate.task_runs
         where schedule = $1 and finished_at is null and slot is distinct from $2 and leader_term is not null
         order by slot desc
         limit $3) r
