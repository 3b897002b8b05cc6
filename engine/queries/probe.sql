-- Whether the server answers, which it is, and whether it takes writes.
select jsonb_build_object('version_num', current_setting('server_version_num')::int, 'version', current_setting('server_version'),
                          'read_only', current_setting('transaction_read_only')::boolean)
