//! The schema goes up, down and up again to the same thing, explains itself, and lets nobody do more than is theirs.
#![allow(clippy::unwrap_used)]

use lockgate::postgres::Migrator;
use lockgate_tests::TestDatabase;
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection, PgPool};
use uuid::Uuid;

/// Everything of the schema that a migration can change, one line each.
const CATALOGUE: &str = "
    select 'schema ' || unnest(coalesce(nspacl, '{}'))::text from pg_namespace where nspname = 'lockgate'
    union all select 'schema ' || coalesce(obj_description(oid, 'pg_namespace'), '') from pg_namespace where nspname = 'lockgate'
    union all select format('%s %s owner %s options %s bound %s: %s', c.relkind, c.relname, pg_get_userbyid(c.relowner),
            c.reloptions, pg_get_expr(c.relpartbound, c.oid), obj_description(c.oid, 'pg_class'))
        from pg_class c where c.relnamespace = 'lockgate'::regnamespace
    union all select format('%s granted %s', c.relname, a) from pg_class c, unnest(c.relacl) a
        where c.relnamespace = 'lockgate'::regnamespace
    union all select format('%s.%s %s not null %s default %s identity %s storage %s granted %s: %s', c.relname, a.attname,
            format_type(a.atttypid, a.atttypmod), a.attnotnull, pg_get_expr(d.adbin, d.adrelid), a.attidentity, a.attstorage,
            a.attacl, col_description(c.oid, a.attnum))
        from pg_class c join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
        left join pg_attrdef d on d.adrelid = c.oid and d.adnum = a.attnum
        where c.relnamespace = 'lockgate'::regnamespace and c.relkind in ('r', 'p', 'v')
    union all select pg_get_indexdef(i.indexrelid) from pg_index i join pg_class c on c.oid = i.indrelid
        where c.relnamespace = 'lockgate'::regnamespace
    union all select format('%s %s %s', conrelid::regclass, conname, pg_get_constraintdef(oid)) from pg_constraint
        where connamespace = 'lockgate'::regnamespace
    union all select format('%s owner %s granted %s: %s', pg_get_functiondef(oid), pg_get_userbyid(proowner), proacl,
            obj_description(oid, 'pg_proc')) from pg_proc where pronamespace = 'lockgate'::regnamespace
    union all select pg_get_triggerdef(t.oid) from pg_trigger t join pg_class c on c.oid = t.tgrelid
        where c.relnamespace = 'lockgate'::regnamespace and not t.tgisinternal
    union all select pg_get_viewdef(oid) from pg_class where relnamespace = 'lockgate'::regnamespace and relkind = 'v'
    order by 1";

async fn lines(pool: &PgPool, sql: &'static str) -> Vec<String> {
    let found: Vec<Option<String>> = sqlx::query_scalar(sql).fetch_all(pool).await.unwrap();
    found.into_iter().flatten().collect()
}

fn assert_same(before: &[String], after: &[String], what: &str) {
    let gone: Vec<_> = before.iter().filter(|line| !after.contains(line)).collect();
    let new: Vec<_> = after.iter().filter(|line| !before.contains(line)).collect();
    assert!(
        gone.is_empty() && new.is_empty(),
        "{what}: gone {gone:#?}, new {new:#?}"
    );
}

#[tokio::test]
async fn up_down_and_up_again_is_the_same_schema() {
    let test_database = TestDatabase::new().await;
    let (migrator, pool) = (Migrator::new(test_database.database()), test_database.pool());
    let before = lines(pool, CATALOGUE).await;
    assert!(before.len() > 300, "the catalogue was not read");

    let reverted = migrator.down(0).await.unwrap();
    assert_eq!(reverted.last().map(|state| state.version), Some(1));
    let left = "select relname::text from pg_class where relnamespace = 'lockgate'::regnamespace and relkind in ('r', 'p', 'v')
        union all select proname from pg_proc where pronamespace = 'lockgate'::regnamespace";
    assert_eq!(lines(pool, left).await, ["migrations"]);

    assert_eq!(migrator.up(None).await.unwrap().len(), reverted.len());
    assert_same(&before, &lines(pool, CATALOGUE).await, "after down to nothing and up");
    assert!(migrator.up(None).await.unwrap().is_empty());
}

#[tokio::test]
async fn every_migration_can_be_taken_back_alone() {
    let test_database = TestDatabase::empty().await;
    let (migrator, pool) = (Migrator::new(test_database.database()), test_database.pool());
    // Before the first migration there is the migrator's own table.
    migrator.up(Some(0)).await.unwrap();
    for version in 1..=Migrator::known_version() {
        migrator.up(Some(version)).await.unwrap();
        let up = lines(pool, CATALOGUE).await;
        migrator.down(version - 1).await.unwrap();
        migrator.up(Some(version)).await.unwrap();
        assert_same(&up, &lines(pool, CATALOGUE).await, &format!("migration {version}"));
    }
    migrator.check().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_migrators_at_once_both_succeed() {
    let test_database = TestDatabase::empty().await;
    let migrators = [test_database.database(), test_database.database()].map(Migrator::new);
    let (one, other) = tokio::join!(migrators[0].up(None), migrators[1].up(None));
    let mut applied: Vec<i32> = one
        .unwrap()
        .into_iter()
        .chain(other.unwrap())
        .map(|state| state.version)
        .collect();
    applied.sort_unstable();
    assert_eq!(applied, (1..=Migrator::known_version()).collect::<Vec<_>>());
    migrators[0].check().await.unwrap();
}

#[tokio::test]
async fn everything_is_explained() {
    let test_database = TestDatabase::new().await;
    let unexplained = "
        select c.relname::text from pg_class c where c.relnamespace = 'lockgate'::regnamespace and c.relkind in ('r', 'p', 'v')
           and coalesce(obj_description(c.oid, 'pg_class'), '') = ''
        union all select format('%s.%s', c.relname, a.attname) from pg_class c join pg_attribute a on a.attrelid = c.oid
         where c.relnamespace = 'lockgate'::regnamespace and c.relkind in ('r', 'p', 'v') and not c.relispartition
           and a.attnum > 0 and not a.attisdropped and coalesce(col_description(c.oid, a.attnum), '') = ''
        union all select oid::regprocedure::text from pg_proc where pronamespace = 'lockgate'::regnamespace
           and coalesce(obj_description(oid, 'pg_proc'), '') = ''";
    assert_eq!(lines(test_database.pool(), unexplained).await, Vec::<String>::new());
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
    ];
    assert_eq!(lines(test_database.pool(), roles).await, expected);
}

#[tokio::test]
async fn functions_that_run_as_the_owner_are_closed_and_pinned() {
    let test_database = TestDatabase::new().await;
    let open = "select p.oid::regprocedure::text from pg_proc p
        where p.pronamespace = 'lockgate'::regnamespace
          and (p.proconfig is distinct from array['search_path=pg_catalog, pg_temp']
               or exists (select from aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) a where a.grantee = 0))";
    assert_eq!(lines(test_database.pool(), open).await, Vec::<String>::new());
    let foreign = "select relname::text from pg_class
        where relnamespace = 'lockgate'::regnamespace and pg_get_userbyid(relowner) <> 'lockgate_owner'";
    assert_eq!(lines(test_database.pool(), foreign).await, Vec::<String>::new());
}

async fn logged_in_as(test_database: &TestDatabase, role: &str) -> PgConnection {
    let mut session = PgConnection::connect(test_database.url()).await.unwrap();
    let become_role = format!("set session authorization {role}");
    session.execute(AssertSqlSafe(become_role)).await.unwrap();
    session
}

const DENIED: &str = "42501";

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
    (
        "operator",
        "select * from lockgate.proof_problems(gen_random_uuid())",
        false,
    ),
    ("reader", "select params from lockgate.task_runs", true),
    ("reader", "select output from lockgate.task_runs", true),
    ("reader", "select params from lockgate.schedules", true),
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
    ("reader", "select id, status, reason from lockgate.task_runs", false),
    ("reader", "select * from lockgate.v_run_proof", false),
    (
        "reader",
        "select * from lockgate.proof_problems(gen_random_uuid())",
        false,
    ),
    ("reader", "select * from lockgate.batch_items(gen_random_uuid())", false),
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
        let answer = session.execute(sqlx::raw_sql(sql)).await;
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
    let acts = "select lockgate.pause_run($1), lockgate.resume_run($1, 'anna'), lockgate.cancel_run($1, 'enough', 'lockgate_operator')";
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
    assert_eq!(lines(test_database.pool(), actors).await, expected);
}
