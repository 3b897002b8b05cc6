-- A page of steps that wait for children, by run: whose run sleeps although a child of it is over, since whoever ended it
-- died before it could wake it; and whose run is over or asked to stop, so that its children are to stop; and which
-- branches lie under a select that another one has won: whoever recorded that stops their children, a page at a time.
with page as (
    select s.run_id, s.path
      from lockgate.run_steps s
     where s.kind = 'child' and s.status = 'open' and (s.run_id, s.path) > ($1, $2)
     order by s.run_id, s.path
     limit $3
)
select p.run_id, max(p.path) as path, count(*) as steps,
       -- The steps of a run that somebody deleted are passed by.
       coalesce(bool_or(r.finished_at is not null or r.stop_status is not null), false) as stops,
       coalesce(bool_or(r.finished_at is null and r.claim_id is null and r.status in ('running', 'suspended')
               and (r.wake_at is null or r.wake_at > (select clock_timestamp()))
               and exists (select from lockgate.task_runs c
                            where c.parent_id = p.run_id and c.parent_path = p.path
                              and c.continued_as is null
                              -- Of what was over long before its last claim the holder was told. A commit takes a while.
                              and c.finished_at > r.claimed_at - interval '1 minute')), false) as sleeps,
       coalesce(array_agg(distinct l.branch) filter (where l.branch is not null), '{}') as lost
  from page p
  left join lockgate.task_runs r on r.id = p.run_id
  left join lateral (
      select a.branch
        from (select string_to_array(p.path, '/') as parts) s
       -- Each branch adds two parts to a path: its place and its own number.
       cross join lateral (
           select array_to_string(s.parts[:2 * n - 1], '/') as place, s.parts[2 * n] as number,
                  array_to_string(s.parts[:2 * n], '/') || '/' as branch
             from generate_series(1, (cardinality(s.parts) - 1) / 2) n) a
       -- One look by its key: as a join all steps of the run are read for each of its children.
       cross join lateral (
           select w.kind, w.status, w.result
             from lockgate.run_steps w where w.run_id = p.run_id and w.path = a.place limit 1) w
       where w.kind = 'select' and w.status = 'completed' and convert_from(w.result, 'UTF8') <> a.number
       limit 1) l on true
 group by p.run_id
 order by p.run_id
