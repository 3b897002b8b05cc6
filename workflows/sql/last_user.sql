-- The newest user there is.
select coalesce(max(id), 0) from tracker.users
