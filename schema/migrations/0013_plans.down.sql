drop function lockgate.discard_plan(uuid, bigint, uuid, text);
