drop function lockgate.start_runs(uuid[], text, bytea[], boolean, text, smallint, timestamptz, interval, text, text);
