-- A page of the outbox, whoever comes first.
delete from lockgate.outbox o
 using (select seq from lockgate.outbox order by seq limit $1 for update skip locked) page
 where o.seq = page.seq
returning o.seq, o.message_id, o.key, o.headers, o.payload
