//! The schema goes up, down and up again to the same thing, and explains itself.
#![allow(clippy::unwrap_used)]

use lockgate::postgres::Migrator;
use lockgate_tests::TestDatabase;
use sqlx::PgPool;

/// Everything of the schema that a migration can change, one line each. Grants have the order in which the server lists roles.
const CATALOGUE: &str = "
    select 'schema ' || unnest(coalesce(nspacl, '{}'))::text from pg_namespace where nspname = 'lockgate'
    union all select 'schema ' || coalesce(obj_description(oid, 'pg_namespace'), '') from pg_namespace where nspname = 'lockgate'
    union all select format('%s %s owner %s options %s bound %s: %s', c.relkind, c.relname, pg_get_userbyid(c.relowner),
            array(select unnest(c.reloptions) order by 1), pg_get_expr(c.relpartbound, c.oid), obj_description(c.oid, 'pg_class'))
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
    union all select format('%s owner %s granted %s: %s', pg_get_functiondef(oid), pg_get_userbyid(proowner),
            array(select a::text from unnest(proacl) a order by 1),
            obj_description(oid, 'pg_proc')) from pg_proc where pronamespace = 'lockgate'::regnamespace
    union all select pg_get_triggerdef(t.oid) from pg_trigger t join pg_class c on c.oid = t.tgrelid
        where c.relnamespace = 'lockgate'::regnamespace and not t.tgisinternal
    union all select pg_get_viewdef(oid) from pg_class where relnamespace = 'lockgate'::regnamespace and relkind = 'v'
    order by 1";

/// From this migration on a way down leaves everything as it was; of the earlier ones some leave a comment of their own.
const FAITHFUL: i32 = 28;

async fn lines(pool: &PgPool, sql: &'static str) -> Vec<String> {
    let found: Vec<Option<String>> = sqlx::query_scalar(sql).fetch_all(pool).await.unwrap();
    found.into_iter().flatten().collect()
}

/// Without the grants: those that go without saying may stand there or not.
fn ungranted(lines: &[String]) -> Vec<String> {
    let is_grant = |line: &String| {
        let of_schema = line.starts_with("schema ") && line.ends_with("/lockgate_owner");
        of_schema || line.contains(" granted ") && !line.contains(": ")
    };
    let bare = lines
        .iter()
        .filter(|line| !is_grant(line))
        .map(|line| match line.rsplit_once(" granted {") {
            Some((head, tail)) => format!("{head}{}", tail.split_once('}').unwrap_or_default().1),
            None => line.clone(),
        });
    bare.collect()
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
    // The first one makes what the catalogue is read from; that all of it goes is for the test above.
    migrator.up(Some(1)).await.unwrap();
    for version in 2..=Migrator::known_version() {
        let below = lines(pool, CATALOGUE).await;
        migrator.up(Some(version)).await.unwrap();
        let up = lines(pool, CATALOGUE).await;
        migrator.down(version - 1).await.unwrap();
        // What a way down leaves of itself the way up may well cover.
        if version >= FAITHFUL {
            let down = lines(pool, CATALOGUE).await;
            assert_same(&ungranted(&below), &ungranted(&down), &format!("way down of {version}"));
        }
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
    let states = migrators[0].status().await.unwrap();
    assert_eq!(applied, states.iter().map(|state| state.version).collect::<Vec<_>>());
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
