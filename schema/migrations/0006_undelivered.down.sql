drop table lockgate.undelivered_messages;
