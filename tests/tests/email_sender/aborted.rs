//! Effects whose transaction is lost without their code saying so: on a page that a test makes, without a broker.

use std::sync::Arc;

use async_trait::async_trait;
use lockgate::delivery::{InboundPage, PageEnd, Record, Rejection, Settler, TakeError, Taken};
use lockgate::postgres::{Database, Effect, EffectError, Inbox};
use lockgate_tests::TestDatabase;
use lockgate_tests::mailroom::id_of;
use sqlx::{Executor, PgConnection};
use std::time::Duration;
use uuid::Uuid;

/// What the code of an effect does about one of its messages.
#[derive(Clone, Copy)]
enum Spoils {
    /// A unique key is there: passed over, as most code does it.
    PassedOver,
    /// The same, and goes on with the next statement, of which it tells.
    GoneOnWith,
    /// Ends the transaction itself, at last.
    RolledBack,
    /// Waits for something else, longer than the server lets a transaction idle.
    Idles,
}

/// A row for each message; one of them spoils it.
struct Rows {
    spoils: Spoils,
    at: Uuid,
}

#[async_trait]
impl Effect for Rows {
    type Prepared = ();

    fn prepare(&self, _id: Uuid, _record: &Record) -> Result<(), Rejection> {
        Ok(())
    }

    async fn apply(&self, connection: &mut PgConnection, new: &[(Uuid, &())]) -> Result<(), EffectError> {
        for (id, ()) in new {
            let insert = || sqlx::query("insert into public.effects values ($1)").bind(id);
            insert().execute(&mut *connection).await?;
            if *id != self.at {
                continue;
            }
            match self.spoils {
                Spoils::PassedOver => drop(insert().execute(&mut *connection).await),
                Spoils::GoneOnWith => {
                    drop(insert().execute(&mut *connection).await);
                    sqlx::query("select 1").execute(&mut *connection).await?;
                }
                Spoils::RolledBack => {}
                Spoils::Idles => {
                    tokio::time::sleep(Duration::from_millis(600)).await;
                    sqlx::query("select 1").execute(&mut *connection).await?;
                }
            }
        }
        // What is written afterwards would be there for good.
        if matches!(self.spoils, Spoils::RolledBack) && new.iter().any(|(id, ())| *id == self.at) {
            connection.execute("rollback").await?;
        }
        Ok(())
    }
}

fn page(users: std::ops::Range<u32>) -> InboundPage {
    let records = users.map(|user| Record {
        partition: 0,
        offset: i64::from(user),
        timestamp: None,
        key: None,
        payload: Vec::new(),
        headers: vec![("message-id".to_owned(), id_of(user).to_string().into_bytes())],
    });
    InboundPage {
        topic: "letters".into(),
        records: Arc::new(records.collect()),
        end: PageEnd::default(),
    }
}

async fn taken(database: &TestDatabase, spoils: Spoils) -> Result<Taken, TakeError> {
    let pool = database.pool();
    pool.execute("create table if not exists public.effects (message_id uuid primary key)")
        .await
        .unwrap();
    let mut settings = database.settings();
    if matches!(spoils, Spoils::Idles) {
        settings.idle_in_transaction = Duration::from_millis(200);
    }
    let effect = Arc::new(Rows { spoils, at: id_of(7) });
    let inbox = Inbox::new(Database::new(&settings).unwrap(), "rows", effect);
    inbox.take(&page(0..20)).await
}

async fn count(database: &TestDatabase, from: &'static str) -> i64 {
    sqlx::query_scalar(from).fetch_one(database.pool()).await.unwrap()
}

#[tokio::test]
async fn a_message_whose_effect_loses_its_transaction_is_put_aside_alone() {
    for spoils in [Spoils::PassedOver, Spoils::GoneOnWith, Spoils::RolledBack] {
        let database = TestDatabase::new().await;
        let taken = taken(&database, spoils).await.unwrap();
        assert_eq!((taken.new, taken.repeated, taken.dead), (19, 0, 1));
        assert_eq!(count(&database, "select count(*) from public.effects").await, 19);
        assert_eq!(count(&database, "select count(*) from lockgate.inbox").await, 19);
        let why = "select count(*) from lockgate.inbox_dead where kafka_offset = 7 and reason_code = 'effect_aborted'";
        assert_eq!(count(&database, why).await, 1);
    }
}

/// What it waited for may come, so nobody is blamed; but it is said whose it is.
#[tokio::test]
async fn an_effect_that_idles_too_long_is_told_of_and_put_off() {
    let database = TestDatabase::new().await;
    let failed = taken(&database, Spoils::Idles).await.unwrap_err().to_string();
    assert!(
        failed.contains("its transaction idled for longer than the server lets it"),
        "{failed}"
    );
    assert_eq!(count(&database, "select count(*) from lockgate.inbox_dead").await, 0);
    assert_eq!(count(&database, "select count(*) from lockgate.inbox").await, 0);
}
