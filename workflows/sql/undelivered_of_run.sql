-- How many messages of run $1 are still to be delivered; what is refused waits for a person, not for time.
select count(*) from lockgate.undelivered_messages where run_id = $1 and status in ('due', 'claimed')
