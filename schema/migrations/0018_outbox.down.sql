drop function lockgate.enqueue_email(text, text, jsonb, text, bigint, text, text, timestamptz);
drop function lockgate.is_language_tag(text);
drop function lockgate.enqueue_command(text, text, text, text, jsonb, text, text, timestamptz, bytea);
drop function lockgate.enqueue_commands(text[], uuid[], text[], bytea[], text[], bytea[], timestamptz[]);
drop function lockgate.keyed_id(text, text);
drop view lockgate.v_outbox;
drop table lockgate.outbox_lanes;
drop table lockgate.outbox;
do $$ begin
    if exists (select 1 from pg_roles where rolname = 'lockgate_sender') then
        revoke execute on function lockgate.start_run(text, jsonb, text, text, timestamptz, integer, interval) from lockgate_sender;
        revoke usage on schema lockgate from lockgate_sender;
    end if;
end $$;
