-- Of the children that these steps of a run wait for those that are over, and those that are not there any more.
select p.path, c.id, c.status, c.output, c.reason
  from unnest($2::text[]) p (path)
  left join lateral (
      -- Of those that went on in one another's place the last one counts.
      select r.id, r.status, r.output, r.reason, r.finished_at
        from lockgate.task_runs r
       where r.parent_id = $1 and r.parent_path = p.path and r.continued_as is null
       limit 1) c on true
 where c.id is null or c.finished_at is not null
