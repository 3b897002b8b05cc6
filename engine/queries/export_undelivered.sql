-- What a message is made of; needs rights on the table, as it may hold personal data.
select m.id, m.key, m.headers, m.payload
  from lockgate.undelivered_messages m
 where m.id = any ($1)
