drop table lockgate.schedules;
drop function lockgate.touch_schedule();
