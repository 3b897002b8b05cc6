drop function lockgate.check_api_token(bytea);
drop function lockgate.revoke_api_token(text, text);
drop function lockgate.list_api_tokens();
drop function lockgate.create_api_token(uuid, text, bytea, text[], interval, text);
drop table lockgate.api_tokens;
comment on column lockgate.replicas.roles is 'What it does: leader, worker';
