-- What a user is to be reminded of; no row: of nothing.
select u.email, u.name, u.locale, count(*) as open, min(t.created_at)::date as since
  from tracker.users u
  join tracker.tasks t on t.user_id = u.id and t.done_at is null
 where u.id = $1 and u.active
 group by u.id
