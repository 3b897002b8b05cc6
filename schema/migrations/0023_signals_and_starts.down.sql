drop function lockgate.signal_run(uuid, text, jsonb, text, text);
drop function lockgate.wake_run(uuid);
drop table lockgate.signals;
