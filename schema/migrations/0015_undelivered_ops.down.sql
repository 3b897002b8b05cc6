drop function lockgate.discard_undelivered(text, uuid[], text[], uuid, text, text, text, uuid, integer, text);
drop function lockgate.redeliver_undelivered(uuid[], text[], uuid, text, text, text, uuid, integer, text, text);
drop function lockgate.change_undelivered(text, uuid[], text[], uuid, text, text, text, uuid, integer, text, text);
drop function lockgate.count_undelivered(uuid[], text[], uuid, text, text, text);
drop function lockgate.list_undelivered(uuid[], text[], uuid, text, text, text, uuid, integer);
create index undelivered_due on lockgate.undelivered_messages (next_attempt_at) where status = 'due';
drop index lockgate.undelivered_due_by_topic;
