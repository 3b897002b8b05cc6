drop table lockgate.schedules;
drop function lockgate.audit_schedule();
drop function lockgate.touch_schedule();
