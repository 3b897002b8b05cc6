-- The schema's version and the oldest version of binaries that may write to it.
select coalesce(max(version), 0), coalesce(max(min_writer), 0) from lockgate.migrations
