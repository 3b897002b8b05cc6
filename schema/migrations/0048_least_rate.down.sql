do $$
declare
    was text := pg_get_functiondef(
        'lockgate.set_queue(text, integer, integer, double precision, integer, boolean, text, interval, text, text, boolean)'::regprocedure);
begin
    was := replace(was, 'not (set_queue.rate_per_s between 0.000001 and 1000000)',
        'not (set_queue.rate_per_s > 0 and set_queue.rate_per_s <= 1000000)');
    execute replace(was, 'rate_per_s is from 0.000001 to 1000000', 'rate_per_s is above 0 and at most 1000000');
end $$;
alter table lockgate.queues drop constraint queues_rate_per_s_check,
    add constraint queues_rate_per_s_check check (rate_per_s > 0 and rate_per_s <= 1000000);
