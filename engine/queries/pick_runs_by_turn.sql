-- Picks runs of a limited queue, whose row is locked, by tenant and key. Where few runs are ready, their tenants and keys are
-- known; where many are, also by a step from each to the next, beginning behind those whose turn was last, so that neither a
-- tenant with much nor a key that is full stands before the others. In a fair queue those tenants go first who have fewest
-- runs under way. $6: picked already, $7: room.
with recursive gate as (
    select q.max_per_key, q.fair, coalesce(q.last_tenant, '') as tenant, coalesce(q.last_key, '') as key,
           -- How many of the first are looked at: all that are wanted, and more where full keys may stand before others.
           greatest(case when q.max_per_key is null then 512 else 1000 end, $7::bigint + cardinality($6::uuid[])) as first
      from lockgate.queues q where q.name = $1
), holders as (
    select coalesce(r.tenant, '') as tenant, coalesce(r.limit_key, '') as key
      from lockgate.task_runs r
     where coalesce(r.queue, r.workflow) = $1 and r.holds is not null and r.finished_at is null
       and (r.claim_id is not null or r.holds = 'run')
    union all
    select coalesce(r.tenant, ''), coalesce(r.limit_key, '') from lockgate.task_runs r where r.id = any ($6)
), held as (
    select (select coalesce(jsonb_object_agg(key, n), '{}') from (select key, count(*) as n from holders group by 1) k) as by_key,
           (select coalesce(jsonb_object_agg(tenant, n), '{}') from (select tenant, count(*) as n from holders group by 1) t) as by_tenant
), head as materialized (
    select h.id, coalesce(h.rank, h.wake_at) as place, h.tenant, h.limit_key, h.holds, h.stop_status, h.undoing, h.driven_by,
           h.attempts, h.started_at, h.workflow, h.code_version, h.after_run,
           -- By rows: a range would read on through all that became ready at the same instant.
           row_number() over (order by coalesce(h.rank, h.wake_at) rows unbounded preceding) as nth
      from lockgate.task_runs h
     where coalesce(h.queue, h.workflow) = $1 and h.wake_at is not null
       and coalesce(h.rank, h.wake_at) <= (select clock_timestamp()) and h.wake_at <= (select clock_timestamp())
       and h.claim_id is null and h.status in ('queued', 'running', 'suspended')
     order by coalesce(h.rank, h.wake_at)
     limit (select first from gate)
), steps (tenant, key, is_open, wrapped, turn, open) as (
    select tenant, key, false, false, 0, 0 from gate where (select count(*) from head) = first
    union all
    select x.tenant, x.key, o.is_open, x.wrapped, s.turn + 1, s.open + o.is_open::integer
      from steps s
     cross join gate
     left join lateral (
         select coalesce(r.tenant, '') as tenant, coalesce(r.limit_key, '') as key,
                coalesce(r.rank, r.wake_at) <= (select clock_timestamp()) as is_ready
           from lockgate.task_runs r
          where coalesce(r.queue, r.workflow) = $1
            and (coalesce(r.tenant, ''), coalesce(r.limit_key, '')) > (s.tenant, s.key)
            and (r.tenant is not null or r.limit_key is not null) and r.wake_at is not null and r.claim_id is null
            and r.status in ('queued', 'running', 'suspended')
          order by coalesce(r.tenant, ''), coalesce(r.limit_key, ''), coalesce(r.rank, r.wake_at) limit 1) n on true
     cross join lateral (
         select n.tenant, n.key, n.is_ready, s.wrapped where n.tenant is not null
         -- Behind the last one, the first.
         union all
         (select coalesce(r.tenant, ''), coalesce(r.limit_key, ''), coalesce(r.rank, r.wake_at) <= (select clock_timestamp()), true
            from lockgate.task_runs r
           where n.tenant is null and not s.wrapped and coalesce(r.queue, r.workflow) = $1
             and (r.tenant is not null or r.limit_key is not null) and r.wake_at is not null and r.claim_id is null
             and r.status in ('queued', 'running', 'suspended')
           order by coalesce(r.tenant, ''), coalesce(r.limit_key, ''), coalesce(r.rank, r.wake_at) limit 1)) x
     cross join held
     -- Of whose runs the first one is not ready, none is.
     cross join lateral (
         select x.is_ready and (x.key = '' or gate.max_per_key is null
                                or gate.max_per_key > coalesce((held.by_key ->> x.key)::bigint, 0)) as is_open) o
     where s.open < 256 and s.turn < 512 and not (x.wrapped and (x.tenant, x.key) > (gate.tenant, gate.key))
), found as (
    -- Of many that are ready those are heard of who have waited longest, wherever their turn is.
    select coalesce(h.tenant, '') as tenant, coalesce(h.limit_key, '') as key
      from head h
     where (h.tenant is not null or h.limit_key is not null) and (h.nth <= 32 or (select count(*) from head) < (select first from gate))
    union
    select s.tenant, s.key from steps s where s.turn > 0 and s.is_open
), turns as (
    select f.tenant, f.key, f.share, least(f.share, f.room) as take,
           row_number() over (order by (f.tenant, f.key) <= (gate.tenant, gate.key), f.tenant, f.key) as turn
      -- Who sleeps, or has no room, takes no share from the others. A quarter more than what is each one's if all have as much,
      -- since all of it is read; where that is too little, the next look gets the rest.
      from (select o.tenant, o.key, k.room,
                   least($7::bigint, ceil(greatest($7 * 1.25, 256) / count(*) over ())::bigint) as share
              from found o
             cross join gate
             cross join held
             cross join lateral (
                 select case when o.key <> '' then gate.max_per_key - coalesce((held.by_key ->> o.key)::bigint, 0) end as room) k
             where coalesce(k.room, 1) > 0) f
     cross join gate
), candidates as (
    select c.id, c.rank, t.tenant, t.key, t.turn, t.share
      from turns t
     cross join lateral (
         select r.id, coalesce(r.rank, r.wake_at) as rank
           from lockgate.task_runs r
          where coalesce(r.queue, r.workflow) = $1
            -- One range of task_runs_turns, in its order: no other index has that, and lock_queue forbids to sort.
            and (coalesce(r.tenant, ''), coalesce(r.limit_key, ''), coalesce(r.rank, r.wake_at))
                >= (t.tenant, t.key, '-infinity'::timestamptz)
            and (coalesce(r.tenant, ''), coalesce(r.limit_key, ''), coalesce(r.rank, r.wake_at))
                <= (t.tenant, t.key, (select clock_timestamp()))
            and (r.tenant is not null or r.limit_key is not null)
            and r.wake_at is not null and r.id <> all ($6) and r.wake_at <= (select clock_timestamp())
            and r.claim_id is null and r.status in ('queued', 'running', 'suspended') and r.holds is distinct from 'run'
            and (r.stop_status is null or r.undoing) and r.driven_by = 'engine' and (r.attempts >= $4) = $5
            and case when r.started_at is null then r.workflow = any ($2)
                     else r.workflow || '@' || coalesce(r.code_version, 1) = any ($3) end
            and (r.after_run is null or lockgate.waited_for(r.after_run) is null)
          order by coalesce(r.tenant, ''), coalesce(r.limit_key, ''), coalesce(r.rank, r.wake_at)
          limit t.take) c
    union all
    -- What has neither tenant nor key has no index of its own: as far as it stands among the first.
    (select r.id, r.place, '', '', 0, null
       from head r
      where r.tenant is null and r.limit_key is null and r.id <> all ($6) and r.holds is distinct from 'run'
        and (r.stop_status is null or r.undoing) and r.driven_by = 'engine' and (r.attempts >= $4) = $5
        and case when r.started_at is null then r.workflow = any ($2)
                 else r.workflow || '@' || coalesce(r.code_version, 1) = any ($3) end
        and (r.after_run is null or lockgate.waited_for(r.after_run) is null)
      order by r.place
      limit $7)
), fit as (
    select k.*, row_number() over (partition by k.tenant order by k.rank, k.id)
                + coalesce((held.by_tenant ->> k.tenant)::bigint, 0) as under_way
      -- What no key limits is not sorted by key.
      from (select c.id, c.rank, c.tenant, c.key, c.turn
              from candidates c cross join gate where gate.max_per_key is null or c.key = ''
            union all
            select o.id, o.rank, o.tenant, o.key, o.turn
              from (select c.*, row_number() over (partition by c.key order by c.rank, c.id) as of_key
                      from candidates c cross join gate where gate.max_per_key is not null and c.key <> '') o
             cross join gate
             cross join held
             where o.of_key + coalesce((held.by_key ->> o.key)::bigint, 0) <= gate.max_per_key) k
     cross join held
), chosen as (
    select f.*, row_number() over (order by case when gate.fair then f.under_way end, case when gate.fair then f.turn end,
                                            f.rank, f.id) as place
      from fit f cross join gate
     order by place
     limit $7
), picked as (
    -- Locked only now: what is not chosen is not touched.
    select r.id
      from lockgate.task_runs r
     -- As an array, so that each is looked up by its key; in a case, which no index serves.
     where r.id = any (array(select id from chosen))
       and case when r.claim_id is null then r.wake_at <= clock_timestamp() and r.status in ('queued', 'running', 'suspended')
                                             and (r.stop_status is null or r.undoing) end
       for no key update of r skip locked
), last_turn as (
    -- In a fair queue who was served last of those whose turn it was, else who was looked at last: whoever is found by its age
    -- alone, look for look, would hold up the turns of all others.
    (select c.tenant, c.key
       from chosen c
      where (select gate.fair from gate)
        and (not exists (select from steps)
             or exists (select from steps s where s.turn > 0 and (s.tenant, s.key) = (c.tenant, c.key)))
      order by c.place desc limit 1)
    union all
    (select s.tenant, s.key from steps s order by s.turn desc limit 1)
    limit 1
)
select array(select id from picked) as fit, last_turn.tenant as last_tenant, last_turn.key as last_key,
       coalesce((select max(open) >= 256 or max(turn) >= 512 from steps), false)
           or (select count(*) from picked) < $7
              and exists (select from candidates where turn > 0 group by turn, share having count(*) >= share) as more
  from (select) one
  left join last_turn on true
