drop function lockgate.prune_inbox(interval, integer);
drop table lockgate.inbox_dead;
drop table lockgate.inbox;
