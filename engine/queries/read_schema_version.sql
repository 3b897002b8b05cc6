-- Which migrations the schema has, and the oldest version of binaries that may write to it.
select coalesce(array_agg(version), '{}'), coalesce(max(min_writer), 0) from lockgate.migrations
