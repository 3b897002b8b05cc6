-- Adds two tasks to each of the users $1 to $2: one open, one done yesterday by most.
insert into tracker.tasks (user_id, title, created_at, done_at)
select u.id, 'Task ' || k, clock_timestamp() - interval '2 days',
       case when k = 2 and u.id % 7 <> 0 then date_trunc('day', clock_timestamp() at time zone 'UTC') at time zone 'UTC' - interval '1 hour' end
  from tracker.users u cross join generate_series(1, 2) k
 where u.id between $1 and $2
