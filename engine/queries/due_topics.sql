-- Topics with rows whose time has come, the one that has waited longest first; one look into the index for each topic.
with recursive topics as (
    (select m.topic, m.next_attempt_at
       from lockgate.undelivered_messages m
      where m.status = 'due'
      order by m.topic, m.next_attempt_at
      limit 1)
    union all
    select x.topic, x.next_attempt_at
      from topics t
     cross join lateral (
         select m.topic, m.next_attempt_at
           from lockgate.undelivered_messages m
          where m.status = 'due' and m.topic > t.topic
          order by m.topic, m.next_attempt_at
          limit 1) x
)
select topic from topics where next_attempt_at <= (select clock_timestamp()) order by next_attempt_at
