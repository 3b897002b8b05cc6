-- One more user of the task tracker.
insert into tracker.users (email, name, locale) values ($1, $2, $3) returning id
