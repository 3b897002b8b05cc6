drop function lockgate.start_by_hand(uuid, text, bytea, text, text, timestamptz, integer, interval, text, text);
