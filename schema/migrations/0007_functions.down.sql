drop function lockgate.start_run(text, jsonb, text, text, timestamptz, integer, interval);
drop function lockgate.try_start_new_run(uuid, text, bytea, text, text, text, text, timestamptz, timestamptz,
    integer, interval, uuid, text, bigint, text);
drop function lockgate.batch_items(uuid);
drop function lockgate.decode_ids(bigint, bytea);
drop function lockgate.new_id();
