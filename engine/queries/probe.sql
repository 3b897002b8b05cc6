-- Whether the server answers, and which it is.
select jsonb_build_object('version_num', current_setting('server_version_num')::int, 'version', current_setting('server_version'))
