-- A rate has a least: one so small that what it gives in a moment is no number any more made every question that counts it fail.
update lockgate.queues set rate_per_s = 0.000001 where rate_per_s < 0.000001;
alter table lockgate.queues drop constraint queues_rate_per_s_check,
    add constraint queues_rate_per_s_check check (rate_per_s between 0.000001 and 1000000);

do $$
declare
    set_queue constant regprocedure := 'lockgate.set_queue(text, integer, integer, double precision, integer, boolean, text, interval, text, text, boolean)';
    was text := pg_get_functiondef(set_queue);
    bounds constant text := 'not (set_queue.rate_per_s > 0 and set_queue.rate_per_s <= 1000000)';
    words constant text := 'rate_per_s is above 0 and at most 1000000';
begin
    if strpos(was, bounds) = 0 or strpos(was, words) = 0 then raise exception 'set_queue is not as it was'; end if;
    was := replace(was, bounds, 'not (set_queue.rate_per_s between 0.000001 and 1000000)');
    execute replace(was, words, 'rate_per_s is from 0.000001 to 1000000');
end $$;
