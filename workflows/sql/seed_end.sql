-- Seeded users bring their ids along; those who register come behind them.
select setval(pg_get_serial_sequence('tracker.users', 'id'), greatest((select max(id) from tracker.users), 1))
