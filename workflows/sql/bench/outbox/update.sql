-- A page that is done with.
update lockgate.undelivered_messages
   set status = 'delivered', lease_until = null, kafka_partition = 0, kafka_offset = 0, finished_at = clock_timestamp(),
       key = null, headers = '[]', payload = null
 where command_type = 'email' and id = any ($1)
