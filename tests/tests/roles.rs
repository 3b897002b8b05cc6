//! Least privilege: each role can do what is its own and nothing else (R36.11).
#![allow(clippy::unwrap_used)]

use lockgate::postgres::{Database, DatabaseSettings, Migrator};
use lockgate_tests::TestDatabase;
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection};
use uuid::Uuid;

async fn lines(test_database: &TestDatabase, sql: &'static str) -> Vec<String> {
    sqlx::query_scalar(sql).fetch_all(test_database.pool()).await.unwrap()
}

#[tokio::test]
async fn the_roles_can_be_made_twice() {
    for _ in 0..2 {
        TestDatabase::make_roles().await;
    }
    let test_database = TestDatabase::empty().await;
    let roles = "select rolname::text from pg_roles where rolname like 'lockgate\\_%' order by 1";
    let expected = [
        "lockgate_engine",
        "lockgate_migrator",
        "lockgate_operator",
        "lockgate_owner",
        "lockgate_reader",
        "lockgate_sender",
    ];
    assert_eq!(lines(&test_database, roles).await, expected);
}

#[tokio::test]
async fn functions_that_run_as_the_owner_are_closed_and_pinned() {
    let test_database = TestDatabase::new().await;
    let open = "select p.oid::regprocedure::text from pg_proc p
        where p.pronamespace = 'lockgate'::regnamespace
          and (not coalesce('search_path=pg_catalog, pg_temp' = any (p.proconfig), false)
               or exists (select from aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) a where a.grantee = 0))";
    assert_eq!(lines(&test_database, open).await, Vec::<String>::new());
    let foreign = "select relname::text from pg_class
        where relnamespace = 'lockgate'::regnamespace and pg_get_userbyid(relowner) <> 'lockgate_owner'";
    assert_eq!(lines(&test_database, foreign).await, Vec::<String>::new());
}

async fn logged_in_as(test_database: &TestDatabase, role: &str) -> PgConnection {
    let mut session = PgConnection::connect(test_database.url()).await.unwrap();
    let become_role = format!("set session authorization {role}");
    session.execute(AssertSqlSafe(become_role)).await.unwrap();
    session
}

const DENIED: &str = "42501";

const START_BY_HAND: &str = "select * from lockgate.start_by_hand(gen_random_uuid(), 'reports', '{}', null, null, null, null, null, null, null)";

const SET_SCHEDULE: &str = "select lockgate.set_schedule('a', 'reports', '@daily')";

const MAKE_TOKEN: &str =
    "select lockgate.create_api_token(gen_random_uuid(), 'a', sha256('a'), '{send}', interval '1 day', 'somebody')";

/// Who tries what, and whether it is denied.
const TRIES: &[(&str, &str, bool)] = &[
    ("engine", "delete from lockgate.run_batches", true),
    ("engine", "delete from lockgate.transitions", true),
    ("engine", "update lockgate.transitions set reason = 'nothing'", true),
    ("engine", "truncate lockgate.transitions", true),
    ("engine", "drop table lockgate.run_batch_ids", true),
    ("engine", "alter table lockgate.task_runs add x integer", true),
    ("engine", "create table lockgate.x ()", true),
    ("engine", "update lockgate.migrations set min_writer = 99", true),
    ("engine", "copy lockgate.task_runs to program 'cat'", true),
    ("engine", "set role lockgate_owner", true),
    ("engine", "select * from lockgate.task_runs", false),
    ("engine", "update lockgate.run_batches set attempts = 0", false),
    (
        "engine",
        "insert into lockgate.transitions (entity, to_status) values ('leader', 'elected')",
        false,
    ),
    ("engine", "select lockgate.prune_replicas('1 day', 10)", false),
    (
        "engine",
        "select lockgate.dissolve_batches(gen_random_uuid(), '{}', 1)",
        false,
    ),
    ("engine", "delete from lockgate.inbox", true),
    ("engine", "update lockgate.inbox set consumer = 'another'", true),
    ("engine", "delete from lockgate.inbox_dead", true),
    (
        "engine",
        "insert into lockgate.inbox (consumer, message_id, topic, kafka_partition, kafka_offset) values ('c', gen_random_uuid(), 't', 0, 0)",
        false,
    ),
    ("engine", "select lockgate.prune_inbox('1 day', 10)", false),
    ("operator", "select payload from lockgate.inbox_dead", true),
    ("operator", "select lockgate.prune_inbox('0', 10)", true),
    ("operator", "select reason_code, reason from lockgate.inbox_dead", false),
    ("reader", "select key from lockgate.inbox_dead", true),
    ("reader", "select count(*) from lockgate.inbox", false),
    ("operator", "update lockgate.task_runs set status = 'running'", true),
    (
        "operator",
        "insert into lockgate.transitions (entity, to_status) values ('leader', 'elected')",
        true,
    ),
    ("operator", "delete from lockgate.undelivered_messages", true),
    ("operator", "select payload from lockgate.undelivered_messages", true),
    (
        "operator",
        "select lockgate.request_stop(gen_random_uuid(), 'cancelled', 'x', 'somebody else')",
        true,
    ),
    ("operator", "select lockgate.prune_runs('0', 1000)", true),
    (
        "operator",
        "select lockgate.dissolve_batches(gen_random_uuid(), '{1}', 1)",
        true,
    ),
    ("operator", "select * from lockgate.task_runs", false),
    ("operator", "select lockgate.cancel_run(gen_random_uuid())", false),
    ("operator", "select lockgate.pause_run(gen_random_uuid())", false),
    ("operator", "select lockgate.resume_run(gen_random_uuid())", false),
    ("operator", "select lockgate.start_run('reports')", false),
    ("operator", "select lockgate.delete_run(gen_random_uuid())", false),
    (
        "operator",
        "select * from lockgate.act_on_runs('cancel', '{\"all\": true}')",
        false,
    ),
    (
        "operator",
        "select * from lockgate.repeat_run(gen_random_uuid(), gen_random_uuid(), 'retry', null, null, true, null, null)",
        false,
    ),
    ("operator", "select lockgate.signal_run(gen_random_uuid(), 'go')", false),
    (
        "operator",
        "select lockgate.act_on_run('cancel', gen_random_uuid(), null, null)",
        true,
    ),
    ("operator", "select lockgate.prune_run_rows(gen_random_uuid(), 1)", true),
    ("operator", "select * from lockgate.retention_cursor", true),
    ("operator", "select lockgate.wake_behind(gen_random_uuid())", true),
    ("operator", "select lockgate.lead_past(gen_random_uuid())", true),
    (
        "operator",
        "select * from lockgate.move_outbox('a test', of_type => 'none')",
        false,
    ),
    (
        "operator",
        "select * from lockgate.discard_outbox('a test', of_type => 'none')",
        false,
    ),
    ("reader", "select * from lockgate.discard_outbox('a test')", true),
    (
        "operator",
        "select * from lockgate.run_timeline(gen_random_uuid(), with_values => true)",
        false,
    ),
    ("engine", "select lockgate.delete_run(gen_random_uuid())", false),
    ("engine", "select * from lockgate.prune_runs('1 day', 10)", false),
    ("engine", "select lockgate.merged_attributes(null, '{}')", false),
    (
        "reader",
        "select * from lockgate.run_timeline(gen_random_uuid())",
        false,
    ),
    (
        "reader",
        "select * from lockgate.run_timeline(gen_random_uuid(), with_values => true)",
        true,
    ),
    ("reader", "select result from lockgate.run_steps", true),
    ("reader", "select path, status from lockgate.run_steps", false),
    ("reader", "select * from lockgate.shown(gen_random_uuid())", false),
    (
        "operator",
        "select * from lockgate.shown(gen_random_uuid(), 'progress')",
        false,
    ),
    ("sender", "select * from lockgate.shown(gen_random_uuid())", true),
    ("reader", "select lockgate.run_result(gen_random_uuid())", true),
    ("reader", "select lockgate.run_input(gen_random_uuid())", true),
    ("sender", "select lockgate.run_result(gen_random_uuid())", true),
    (
        "operator",
        "select lockgate.run_input(id), lockgate.run_result(id) from lockgate.task_runs",
        false,
    ),
    ("engine", "select lockgate.run_result(gen_random_uuid())", false),
    ("reader", "select attributes from lockgate.v_runs", false),
    ("reader", "select lockgate.waited_for(gen_random_uuid())", false),
    ("operator", "select lockgate.waited_for(gen_random_uuid())", false),
    (
        "reader",
        "select attributes, forked_from from lockgate.task_runs",
        false,
    ),
    ("reader", "select lockgate.delete_run(gen_random_uuid())", true),
    ("reader", "select lockgate.retry_run(gen_random_uuid())", true),
    (
        "reader",
        "select * from lockgate.act_on_runs('cancel', '{\"all\": true}')",
        true,
    ),
    (
        "sender",
        "select lockgate.start_run('reports', attributes => '{\"a\": 1}')",
        false,
    ),
    ("operator", SET_SCHEDULE, false),
    ("operator", "select lockgate.pause_schedule('a', 'a test')", false),
    ("operator", "select lockgate.resume_schedule('a', 'a test')", false),
    ("operator", "select lockgate.remove_schedule('a', 'a test')", false),
    (
        "operator",
        "insert into lockgate.schedules (name, workflow, cron) values ('a', 'reports', '@daily')",
        true,
    ),
    ("operator", "update lockgate.schedules set cron = '@daily'", true),
    ("operator", "delete from lockgate.schedules", true),
    ("operator", "select lockgate.act_for('anna', 'a test')", true),
    ("engine", SET_SCHEDULE, false),
    ("engine", "select lockgate.remove_schedule('a')", false),
    ("reader", SET_SCHEDULE, true),
    ("reader", "select lockgate.pause_schedule('a')", true),
    ("sender", SET_SCHEDULE, true),
    ("sender", "select lockgate.remove_schedule('a')", true),
    ("operator", START_BY_HAND, false),
    ("operator", MAKE_TOKEN, false),
    ("operator", "select * from lockgate.list_api_tokens()", false),
    ("operator", "select lockgate.revoke_api_token('a', null)", false),
    ("operator", "select hash from lockgate.api_tokens", true),
    ("operator", "select * from lockgate.check_api_token('')", true),
    ("engine", "select * from lockgate.check_api_token('')", false),
    ("engine", MAKE_TOKEN, true),
    ("engine", "select * from lockgate.api_tokens", true),
    ("reader", "select * from lockgate.list_api_tokens()", true),
    (
        "operator",
        "select * from lockgate.proof_problems(gen_random_uuid())",
        false,
    ),
    ("reader", "select params from lockgate.task_runs", true),
    ("reader", "select output from lockgate.task_runs", true),
    ("reader", "select params from lockgate.schedules", true),
    (
        "reader",
        "select queue, priority, tenant, limit_key, attributes from lockgate.schedules",
        false,
    ),
    ("reader", "select payload from lockgate.undelivered_messages", true),
    (
        "reader",
        "select payload from lockgate.undelivered_email_commands",
        true,
    ),
    ("reader", "select key, headers from lockgate.undelivered_messages", true),
    ("reader", "update lockgate.task_runs set status = 'running'", true),
    ("reader", "select lockgate.cancel_run(gen_random_uuid())", true),
    ("reader", "select lockgate.start_run('reports')", true),
    ("reader", START_BY_HAND, true),
    ("reader", "select id, status, reason from lockgate.task_runs", false),
    ("reader", "select * from lockgate.v_run_proof", false),
    (
        "reader",
        "select * from lockgate.proof_problems(gen_random_uuid())",
        false,
    ),
    ("reader", "select * from lockgate.batch_items(gen_random_uuid())", false),
    ("engine", "delete from lockgate.outbox", false),
    ("engine", "update lockgate.outbox set payload = ''", true),
    ("engine", "delete from lockgate.outbox_lanes", true),
    ("engine", "insert into lockgate.outbox_lanes (lane) values (3)", true),
    ("operator", "select lockgate.enqueue_email('a@b', 'welcome')", false),
    ("operator", "select payload from lockgate.outbox", true),
    ("operator", "select * from lockgate.v_outbox_health", false),
    ("reader", "select key from lockgate.outbox", true),
    ("reader", "select * from lockgate.v_outbox_health", false),
    ("reader", "select lockgate.enqueue_email('a@b', 'welcome')", true),
    ("sender", "select lockgate.enqueue_email('a@b', 'welcome')", false),
    ("sender", "select lockgate.enqueue_command('sms', '{}')", false),
    (
        "sender",
        "select lockgate.enqueue_commands('{sms}', array[gen_random_uuid()], '{:sms}', '{null}', '{[]}', '{x}', '{null}')",
        false,
    ),
    ("sender", "select lockgate.start_run('reports')", false),
    ("sender", "select lockgate.cancel_run(gen_random_uuid())", true),
    ("sender", START_BY_HAND, true),
    ("sender", "select * from lockgate.outbox", true),
    (
        "sender",
        "insert into lockgate.outbox (command_type, message_id, route, payload) values ('a', gen_random_uuid(), ':a', '')",
        true,
    ),
    ("sender", "delete from lockgate.outbox", true),
    ("sender", "select * from lockgate.v_outbox_health", true),
    ("sender", "select id from lockgate.task_runs", true),
    ("sender", "select * from lockgate.list_undelivered()", true),
    ("sender", "select lockgate.prune_runs('0', 1000)", true),
    ("sender", "create table lockgate.x ()", true),
    ("sender", "set role lockgate_owner", true),
    ("migrator", "create table lockgate.x ()", true),
    ("migrator", "select * from lockgate.task_runs", true),
    ("migrator", "set role lockgate_owner; create table lockgate.x ()", false),
];

#[tokio::test]
async fn each_role_can_do_what_is_its_own_and_nothing_else() {
    let test_database = TestDatabase::new().await;
    for (role, sql, denied) in TRIES {
        let mut session = logged_in_as(&test_database, &format!("lockgate_{role}")).await;
        session.execute("begin").await.unwrap();
        let answer = session.execute(sqlx::raw_sql(*sql)).await;
        let code = answer
            .err()
            .map(|error| error.as_database_error().unwrap().code().unwrap().into_owned());
        assert_eq!(code.as_deref(), denied.then_some(DENIED), "{role}: {sql}");
        session.close().await.unwrap();
    }
}

#[tokio::test]
async fn an_operators_acts_are_in_the_operators_name() {
    let test_database = TestDatabase::new().await;
    let mut operator = logged_in_as(&test_database, "lockgate_operator").await;
    let run: Uuid = sqlx::query_scalar("select lockgate.start_run('reports')")
        .fetch_one(&mut operator)
        .await
        .unwrap();
    let acts = "select lockgate.pause_run($1), lockgate.resume_run($1, 'anna', 'mended'), lockgate.cancel_run($1, 'enough', 'lockgate_operator')";
    let answers: (String, String, String) = sqlx::query_as(acts).bind(run).fetch_one(&mut operator).await.unwrap();
    assert_eq!(
        answers,
        ("paused".to_owned(), "queued".to_owned(), "cancelled".to_owned())
    );
    let actors = "select to_status || ' by ' || coalesce(actor, 'itself') from lockgate.transitions order by id";
    let expected = [
        "queued by lockgate_operator",
        "paused by lockgate_operator",
        "queued by lockgate_operator for anna",
        "stopping by lockgate_operator",
        "cancelled by itself",
    ];
    assert_eq!(lines(&test_database, actors).await, expected);
}

/// Acts on the schedule `a`, one after the other, and what each answers.
const ON_A_SCHEDULE: &[(&str, &str)] = &[
    (
        "set_schedule('a', 'reports', '@daily', reason => 'asked for', actor => 'anna')",
        "created",
    ),
    (
        "set_schedule('a', 'reports', '@daily', reason => 'again', actor => 'anna')",
        "unchanged",
    ),
    (
        "set_schedule('a', 'reports', '@hourly', reason => 'too rare', actor => 'anna')",
        "changed",
    ),
    ("pause_schedule('a', 'too often', 'anna')", "paused"),
    ("set_schedule('a', 'reports', '@daily', priority => 5)", "changed"),
    ("set_schedule('a', 'reports', '@daily', priority => 5)", "unchanged"),
    ("resume_schedule('a', 'mended', 'anna')", "active"),
    // As a command line of an older release asks.
    ("pause_schedule('a')", "paused"),
    ("resume_schedule('a')", "active"),
    ("remove_schedule('a', actor => 'anna')", "removed"),
    ("remove_schedule('a')", "unknown"),
];

#[tokio::test]
async fn an_operator_sets_and_stops_schedules_for_somebody_and_for_a_reason() {
    let test_database = TestDatabase::new().await;
    let mut operator = logged_in_as(&test_database, "lockgate_operator").await;
    for (act, expected) in ON_A_SCHEDULE {
        let sql = AssertSqlSafe(format!("select lockgate.{act}"));
        let answer: String = sqlx::query_scalar(sql).fetch_one(&mut operator).await.unwrap();
        assert_eq!(answer, *expected, "{act}");
    }
    let created = "select concat_ws(' ', to_status, 'by', actor) || ', ' || reason from lockgate.transitions where from_status is null";
    let expected = ["active by lockgate_operator for anna, created: asked for"];
    assert_eq!(lines(&test_database, created).await, expected);
    let acts =
        "select concat_ws(' ', from_status, to_status, 'by', actor) || ', ' || reason from lockgate.v_acts order by at";
    let expected = [
        "active active by lockgate_operator for anna, edited: too rare",
        "active paused by lockgate_operator for anna, paused: too often",
        "paused paused by lockgate_operator, edited",
        "paused active by lockgate_operator for anna, resumed: mended",
        "active paused by lockgate_operator, paused",
        "paused active by lockgate_operator, resumed",
        "active removed by lockgate_operator for anna, removed",
    ];
    assert_eq!(lines(&test_database, acts).await, expected);
}

#[tokio::test]
async fn what_no_schedule_may_be_is_refused_to_an_operator_too() {
    let test_database = TestDatabase::new().await;
    let mut operator = logged_in_as(&test_database, "lockgate_operator").await;
    for (wrong, expected) in [
        ("'', 'reports', '@daily'", "23514"),
        ("'a', '', '@daily'", "23514"),
        ("'a', null, '@daily'", "23502"),
        ("'a', 'reports', '@daily', overlap => 'both'", "23514"),
        ("'a', 'reports', '@daily', jitter => '2 days'", "23514"),
        ("'a', 'reports', '@daily', priority => 21", "23514"),
        ("'a', 'reports', '@daily', priority => 40000", "22023"),
        ("'a', 'reports', '@daily', params => 'garbage'", "22023"),
        // Of bytes written so, a backslash escapes.
        (r#"'a', 'reports', '@daily', params => '{"a": "\\d"}'"#, "22023"),
        (r#"'a', 'reports', '@daily', params => '\xff'"#, "22023"),
        ("'a', 'reports', '@daily', attributes => '[]'", "23514"),
    ] {
        let sql = AssertSqlSafe(format!("select lockgate.set_schedule({wrong})"));
        let answer: Result<String, _> = sqlx::query_scalar(sql).fetch_one(&mut operator).await;
        let code = answer
            .err()
            .map(|error| error.as_database_error().unwrap().code().unwrap().into_owned());
        assert_eq!(code.as_deref(), Some(expected), "{wrong}");
    }
    let left = "select name from lockgate.schedules";
    assert_eq!(lines(&test_database, left).await, Vec::<String>::new());
}

#[tokio::test]
async fn what_follows_an_act_on_a_schedule_is_not_done_for_its_actor() {
    let test_database = TestDatabase::new().await;
    let mut engine = logged_in_as(&test_database, "lockgate_engine").await;
    for sql in [
        "begin",
        "insert into lockgate.schedules (name, workflow, cron) values ('a', 'reports', '@daily')",
        "select lockgate.pause_schedule('a', 'too often', 'anna')",
        "update lockgate.schedules set workflow = 'other'",
        "commit",
    ] {
        engine.execute(sql).await.unwrap();
    }
    let acts = "select actor || ', ' || reason from lockgate.transitions order by id";
    let expected = [
        "lockgate_engine, created",
        "lockgate_engine for anna, paused: too often",
        "lockgate_engine, edited",
    ];
    assert_eq!(lines(&test_database, acts).await, expected);
}

/// Who applies migrations sees which are applied, though the login itself has no right in the schema.
#[tokio::test]
async fn the_migrator_sees_what_is_applied() {
    let test_database = TestDatabase::new().await;
    let url = test_database.url().replacen("postgres@", "lockgate_migrator@", 1);
    let migrator = Migrator::new(Database::new(&DatabaseSettings::new(url)).unwrap());
    let status = migrator.status().await.unwrap();
    assert!(status.iter().all(|migration| migration.applied), "{status:?}");
    migrator.check().await.unwrap();
}
