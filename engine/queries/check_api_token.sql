-- Whose token this is and what it may do; no row: nobody's.
select jsonb_build_object('name', t.name, 'roles', t.roles) from lockgate.check_api_token($1) t
