-- Tells the team $1 how run $3 went.
select lockgate.enqueue_email($1, 'daily-report-summary', $2, correlation_id => $3, idempotency_key => $3 || '/summary')
