-- How long this transaction may idle before the server ends it; for poolers, behind which a session's settings are anybody's.
select set_config('idle_in_transaction_session_timeout', $1, true)
