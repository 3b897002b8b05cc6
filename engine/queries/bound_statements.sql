-- Until the transaction ends the server ends a statement that takes so many milliseconds; null: as the session began with.
select set_config('statement_timeout',
           coalesce($1::integer::text, (select s.reset_val from pg_settings s where s.name = 'statement_timeout')), true)
