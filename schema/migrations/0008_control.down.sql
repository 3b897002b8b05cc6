drop function lockgate.resume_run(uuid, text);
drop function lockgate.pause_run(uuid, text, text);
drop function lockgate.cancel_run(uuid, text, text);
drop function lockgate.acting_user(text);
drop function lockgate.request_stop(uuid, text, text, text);
drop function lockgate.settle_stop(uuid);
