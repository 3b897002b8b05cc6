use std::time::Duration;

use chrono::Utc;
use futures::FutureExt;
use futures::future::BoxFuture;
use lockgate::lifecycle::{Act, Kind, LetGo, NewStep, OpenWait, RunClaim, RunStore, StepStatus, Transacted};
use lockgate::postgres::{Database, DatabaseSettings, transact};
use sqlx::PgConnection;

use crate::{Scene, hand_back, step};

type Work = Box<dyn for<'c> FnOnce(&'c mut PgConnection) -> BoxFuture<'c, anyhow::Result<NewStep>> + Send>;

/// Writes an account's row and answers the step.
fn book(claim: RunClaim, result: &'static str) -> Work {
    Box::new(move |connection| {
        async move {
            sqlx::query("insert into bookings (of) values ($1)")
                .bind(result)
                .execute(connection)
                .await?;
            anyhow::ensure!(result != "fails", "the account is closed");
            let mut step = step(claim, "0:book", result);
            step.kind = Kind::Transaction;
            Ok(step)
        }
        .boxed()
    })
}

async fn booked(scene: &Scene) -> Vec<String> {
    sqlx::query_scalar("select of from bookings order by of")
        .fetch_all(scene.database.pool())
        .await
        .unwrap()
}

async fn do_book(scene: &Scene, claim: RunClaim, result: &'static str) -> Transacted {
    let database = scene.database.database();
    let work = book(claim, result);
    transact(&database, claim, "0:book", move |connection| work(connection))
        .await
        .unwrap()
}

fn recorded(done: Transacted) -> String {
    match done {
        Transacted::Recorded(state) => String::from_utf8(state.result.unwrap()).unwrap(),
        other => panic!("not recorded: {other:?}"),
    }
}

async fn scene() -> (Scene, RunClaim) {
    let scene = Scene::new().await;
    scene.run("create table bookings (of text)").await;
    let claim = scene.claimed().await;
    (scene, claim)
}

#[tokio::test]
async fn rows_and_record_are_committed_together_or_not_at_all() {
    let (scene, claim) = scene().await;
    let Transacted::Failed(error) = do_book(&scene, claim, "fails").await else {
        panic!("it did not fail");
    };
    assert_eq!(error.to_string(), "the account is closed");
    assert!(booked(&scene).await.is_empty());
    assert_eq!(recorded(do_book(&scene, claim, "one").await), "one");
    // A second time, as after a lost answer: what is recorded counts, and its rows are there once.
    assert_eq!(recorded(do_book(&scene, claim, "two").await), "one");
    assert_eq!(booked(&scene).await, ["one"]);
}

#[tokio::test]
async fn a_holder_that_lost_its_claim_books_nothing() {
    let (scene, claim) = scene().await;
    scene.let_go(claim, hand_back()).await;
    assert!(matches!(do_book(&scene, claim, "late").await, Transacted::Lost));
    let (next, _) = scene.claim(9).await.remove(0);
    assert_eq!(recorded(do_book(&scene, next, "next").await), "next");
    assert!(matches!(do_book(&scene, claim, "late").await, Transacted::Lost));
    assert_eq!(booked(&scene).await, ["next"]);
    let reread = scene.runs.read_news(&[next.run]).await.unwrap();
    assert!(reread[0].fan_outs.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn two_at_once_book_once() {
    let (scene, claim) = scene().await;
    let (one, two) = tokio::join!(do_book(&scene, claim, "one"), do_book(&scene, claim, "two"));
    let (one, two) = (recorded(one), recorded(two));
    assert_eq!(one, two);
    assert_eq!(booked(&scene).await, [one]);
}

/// It may be slow for ever: that it took too long is a failure as any other, which is counted.
#[tokio::test]
async fn work_that_takes_longer_than_a_call_may_has_failed() {
    let (scene, claim) = scene().await;
    let database = Database::new(&DatabaseSettings {
        deadline: Duration::from_secs(1),
        ..scene.database.settings()
    });
    let database = database.unwrap();
    let slow = transact(&database, claim, "0:book", move |connection| {
        async move {
            let booked = "insert into bookings (of) values ('slow')";
            sqlx::query(booked).execute(&mut *connection).await?;
            sqlx::query("select pg_sleep(600)").execute(connection).await?;
            Ok(step(claim, "0:book", "slow"))
        }
        .boxed()
    });
    let Transacted::Failed(error) = slow.await.unwrap() else {
        panic!("it did not fail");
    };
    assert_eq!(
        error.to_string(),
        "its transaction took longer than database.deadline (1s)"
    );
    assert_eq!(recorded(do_book(&scene, claim, "quick").await), "quick");
    assert_eq!(booked(&scene).await, ["quick"]);
}

/// The server would refuse the record each time, however often that is tried.
#[tokio::test]
async fn work_that_goes_on_after_a_statement_of_its_own_has_failed_has_failed() {
    let (scene, claim) = scene().await;
    scene.run("create unique index on bookings (of)").await;
    scene.run("insert into bookings (of) values ('twice')").await;
    let database = scene.database.database();
    let swallows = transact(&database, claim, "0:book", move |connection| {
        async move {
            let again = "insert into bookings (of) values ('twice')";
            let swallowed = sqlx::query(again).execute(connection).await;
            assert!(swallowed.is_err());
            Ok(step(claim, "0:book", "swallowed"))
        }
        .boxed()
    });
    let Transacted::Failed(error) = swallows.await.unwrap() else {
        panic!("it did not fail");
    };
    assert_eq!(
        error.to_string(),
        "a statement of its transaction failed, or ended it, and its work went on: nothing of it can be committed"
    );
    assert_eq!(recorded(do_book(&scene, claim, "once").await), "once");
}

#[tokio::test]
async fn work_that_a_constraint_refuses_at_the_commit_has_failed() {
    let (scene, claim) = scene().await;
    let late = "alter table bookings add constraint once unique (of) deferrable initially deferred";
    scene.run(late).await;
    scene.run("insert into bookings (of) values ('twice')").await;
    let Transacted::Failed(error) = do_book(&scene, claim, "twice").await else {
        panic!("it did not fail");
    };
    assert!(error.to_string().contains("23505"), "{error}");
    assert_eq!(recorded(do_book(&scene, claim, "once").await), "once");
}

/// As a rule over several rows of a ledger does, which can only be looked at when all of them are there.
#[tokio::test]
async fn work_that_a_trigger_refuses_at_the_commit_has_failed_whatever_its_code() {
    for code in ["P0001", "LG001"] {
        let (scene, claim) = scene().await;
        let refuses = format!(
            "create function refuse() returns trigger language plpgsql as
                 $$ begin raise exception 'the books do not balance' using errcode = '{code}'; end $$;
             create constraint trigger balance after insert on bookings deferrable initially deferred
                 for each row execute function refuse()"
        );
        scene.run(&refuses).await;
        let Transacted::Failed(error) = do_book(&scene, claim, "one").await else {
            panic!("it did not fail");
        };
        assert!(error.to_string().contains("the books do not balance"), "{error}");
        scene.run("drop trigger balance on bookings").await;
        assert_eq!(recorded(do_book(&scene, claim, "two").await), "two");
    }
}

/// Whether it asks the server for something more, or only for its record.
#[tokio::test]
async fn work_that_idles_for_longer_than_the_server_lets_it_has_failed() {
    let (scene, claim) = scene().await;
    let database = Database::new(&DatabaseSettings {
        idle_in_transaction: Duration::from_millis(200),
        ..scene.database.settings()
    });
    let database = database.unwrap();
    for asks in [true, false] {
        let idles = transact(&database, claim, "0:book", move |connection| {
            async move {
                tokio::time::sleep(Duration::from_secs(1)).await;
                if asks {
                    sqlx::query("select 1").execute(connection).await?;
                }
                Ok(step(claim, "0:book", "idled"))
            }
            .boxed()
        });
        let Transacted::Failed(error) = idles.await.unwrap() else {
            panic!("it did not fail");
        };
        let told = error.to_string();
        assert!(told.contains("idled for longer than the server lets it"), "{told}");
    }
    assert_eq!(recorded(do_book(&scene, claim, "quick").await), "quick");
}

/// Where a try before has left an open row, as after a long pause or when a person had to look: it is ended, not taken for
/// the work of somebody else.
#[tokio::test]
async fn work_that_is_tried_again_ends_the_open_row_of_the_try_before() {
    let (scene, claim) = scene().await;
    let open = OpenWait {
        path: "0:book".to_owned(),
        kind: Kind::Transaction,
        due_at: None,
        attempts: 1,
    };
    let wait = Act::Wait {
        seen: 0,
        due_at: Some(Utc::now()),
        batches: false,
        waits: vec![open],
    };
    assert_eq!(scene.let_go(claim, wait).await, LetGo::Done);
    let (next, work) = scene.claim(9).await.remove(0);
    assert_eq!(work.steps[0].status, StepStatus::Open);
    assert!(matches!(do_book(&scene, claim, "zombie").await, Transacted::Lost));
    assert_eq!(recorded(do_book(&scene, next, "again").await), "again");
    assert_eq!(recorded(do_book(&scene, next, "twice").await), "again");
    assert_eq!(booked(&scene).await, ["again"]);
}

/// What its code sets stays with its transaction, however it sets it: neither the record nor whoever has the connection
/// next meets it.
#[tokio::test]
async fn what_work_sets_for_its_session_ends_with_its_transaction() {
    let (scene, claim) = scene().await;
    let settings = scene.database.settings();
    for pooler_mode in [false, true] {
        let database = Database::new(&DatabaseSettings {
            max_connections: 1,
            pooler_mode,
            ..settings.clone()
        });
        let database = database.unwrap();
        let path = format!("{}:sets", u8::from(pooler_mode));
        let mut set = step(claim, &path, "set");
        let sets = transact(&database, claim, &path, move |connection| {
            async move {
                let sets = "set role lockgate_reader; set lock_timeout = '7s'";
                sqlx::raw_sql(sets).execute(connection).await?;
                set.kind = Kind::Transaction;
                Ok(set)
            }
            .boxed()
        });
        assert_eq!(recorded(sets.await.unwrap()), "set");
        let mut seen = step(claim, &format!("{}:seen", u8::from(pooler_mode)), "");
        let path = seen.path.clone();
        let looks = transact(&database, claim, &path, move |connection| {
            async move {
                let asked = "select current_user = session_user, current_setting('lock_timeout')";
                let (is_ours, timeout): (bool, String) = sqlx::query_as(asked).fetch_one(connection).await?;
                seen.result = Some(format!("{is_ours} {timeout}").into_bytes());
                seen.kind = Kind::Transaction;
                Ok(seen)
            }
            .boxed()
        });
        // Behind a pooler settings are the pooler's to take back.
        let seen = if pooler_mode { "true 7s" } else { "true 0" };
        assert_eq!(recorded(looks.await.unwrap()), seen);
    }
}

#[tokio::test]
async fn work_that_ends_its_transaction_itself_has_failed() {
    let (scene, claim) = scene().await;
    let database = scene.database.database();
    let ends = transact(&database, claim, "0:book", move |connection| {
        async move {
            sqlx::raw_sql("rollback").execute(connection).await?;
            Ok(step(claim, "0:book", "ended"))
        }
        .boxed()
    });
    let Transacted::Failed(error) = ends.await.unwrap() else {
        panic!("it did not fail");
    };
    assert!(error.to_string().contains("nothing of it can be committed"), "{error}");
    assert_eq!(recorded(do_book(&scene, claim, "once").await), "once");
}
