-- What the report of day $3 says for the users from $1 to $2.
select u.id, u.email, u.name, u.locale, d.done, d.open
  from tracker.users u
 cross join lateral (
     select count(*) filter (where t.done_at >= $3::date and t.done_at < $3::date + 1) as done,
            count(*) filter (where t.done_at is null) as open
       from tracker.tasks t where t.user_id = u.id) d
 where u.id between $1 and $2 and u.active
