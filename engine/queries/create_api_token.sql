-- Makes a token known by its hash; how long it is valid is in seconds.
select lockgate.create_api_token($1, $2, $3, $4, $5::float8 * interval '1 second', $6)
