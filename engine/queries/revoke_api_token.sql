-- Revokes a token; false: no token in force has the name.
select to_jsonb(lockgate.revoke_api_token($1, $2))
