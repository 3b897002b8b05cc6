-- Tokens of the HTTP API, newest first, without their hashes.
select to_jsonb(t) from lockgate.list_api_tokens() t
