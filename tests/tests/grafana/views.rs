//! Every query of a view is run as the reader, after work of every sort, and has something to show; so have the first
//! queries of the runbook.

use lockgate_tests::cluster::Cluster;
use lockgate_tests::demo_load::DemoLoad;
use lockgate_tests::grafana::alert::Alert;
use lockgate_tests::grafana::dashboard::DASHBOARDS;
use lockgate_tests::grafana::panel::Panel;
use lockgate_tests::grafana::{alerts, sql};
use serde_json::Value;
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection};

/// A snapshot must be a minute old before it is shown; nobody waits for that here.
const TAKES_A_MINUTE: &str = "Oldest snapshot";

struct Reader {
    session: PgConnection,
    from: String,
    to: String,
    run: String,
}

impl Reader {
    async fn new(cluster: &Cluster, run: String) -> Self {
        let mut session = PgConnection::connect(cluster.url()).await.unwrap();
        session
            .execute("set session authorization lockgate_reader")
            .await
            .unwrap();
        let around =
            "select (clock_timestamp() - interval '1 hour')::text, (clock_timestamp() + interval '1 hour')::text";
        let (from, to) = sqlx::query_as(around).fetch_one(&mut session).await.unwrap();
        Self { session, from, to, run }
    }

    async fn rows(&mut self, query: &str) -> Vec<Value> {
        let shown = sql::Shown {
            from: &self.from,
            to: &self.to,
            run: &self.run,
        };
        let asked = format!("select to_jsonb(answer) from ({}) answer", shown.fill_in(query));
        let rows: Vec<Value> = sqlx::query_scalar(AssertSqlSafe(asked))
            .fetch_all(&mut self.session)
            .await
            .unwrap_or_else(|error| panic!("{query}: {error}"));
        // One such value, and Grafana shows an error instead of the panel.
        let is_endless = |text: &str| text.trim_start_matches('-').eq_ignore_ascii_case("infinity");
        let endless = |value: &Value| value.as_str().is_some_and(is_endless);
        let all = rows.iter().filter_map(Value::as_object).flat_map(|row| row.values());
        assert!(!all.into_iter().any(endless), "{query}: {rows:?}");
        rows
    }

    /// Which queries of these panels have nothing to show.
    async fn empty(&mut self, panels: impl Iterator<Item = &Panel>) -> Vec<&'static str> {
        let mut empty = Vec::new();
        for panel in panels {
            for query in panel.postgres.1 {
                let rows = self.rows(&sql::written_out(query.text)).await;
                // Counts have a row a minute whether or not anything was counted.
                if rows.is_empty() || (sql::is_time_series(query.text) && !rows.iter().any(counts)) {
                    empty.push(panel.title);
                }
            }
        }
        empty
    }

    /// What the rule of an alert compares.
    async fn value(&mut self, alert: &Alert) -> Option<f64> {
        let rows = self.rows(alert.sql?).await;
        let [row] = &rows[..] else {
            panic!("{}: {rows:?}", alert.name)
        };
        Some(row["value"].as_f64().unwrap_or_else(|| panic!("{}: {row}", alert.name)))
    }

    /// Which alerts would fire.
    async fn firing(&mut self) -> Vec<&'static str> {
        let mut firing = Vec::new();
        for alert in alerts::all() {
            if self.value(alert).await.is_some_and(|value| alert.fires.by(value)) {
                firing.push(alert.name);
            }
        }
        firing
    }
}

/// Is anything but its time more than nothing?
fn counts(row: &Value) -> bool {
    let columns = row.as_object().unwrap();
    columns
        .iter()
        .any(|(name, value)| name != "time" && value.as_f64() > Some(0.0))
}

fn panels() -> impl Iterator<Item = &'static Panel> {
    DASHBOARDS.iter().flat_map(|board| board.panels)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_panel_has_data_and_every_alert_an_answer() {
    let cluster = Cluster::new().await.patient();
    let mut load = DemoLoad::run(&cluster).await;
    let mut reader = Reader::new(&cluster, load.run.to_string()).await;
    // One item of the load is refused for good, and one of its runs failed.
    assert_eq!(reader.firing().await, ["LockgateRefused", "LockgateRunsFail"]);
    let always = panels().filter(|panel| !panel.empty_when_well);
    assert_eq!(reader.empty(always).await, [""; 0]);

    load.breaks(&cluster).await;
    let all = panels().filter(|panel| panel.title != TAKES_A_MINUTE);
    assert_eq!(reader.empty(all).await, [""; 0]);
    let firing = reader.firing().await;
    for name in [
        "LockgateBreakerOpen",
        "LockgateDeadLetters",
        "LockgateOldestUndelivered",
        "LockgateScheduleBroken",
    ] {
        assert!(firing.contains(&name), "{name}: {firing:?}");
    }
    // Whoever follows the runbook sees what it is about.
    for alert in alerts::all().filter(|alert| firing.contains(&alert.name)) {
        assert!(!reader.rows(alert.query).await.is_empty(), "{}", alert.name);
    }
}

#[tokio::test]
async fn first_queries_of_the_runbook_are_answered() {
    let cluster = Cluster::new().await.patient();
    let mut reader = Reader::new(&cluster, String::new()).await;
    for alert in alerts::all() {
        reader.rows(alert.query).await;
    }
    // Nobody is there yet, and nobody has ever led.
    assert_eq!(reader.firing().await, ["LockgateNoLeader", "LockgateNoWorker"]);
    let put_aside = "insert into lockgate.inbox_dead (consumer, topic, kafka_partition, kafka_offset, made_at, reason_code,
                                                     reason, header_names, header_values, payload, received_at)
        select 'mails', 'email_commands', 0, age, 'epoch', 'no_template', 'none', '{}', '{}', '', clock_timestamp() - age * interval '1 hour'
          from generate_series(0, 2) age";
    sqlx::query(put_aside).execute(&cluster.pool).await.unwrap();
    let firing = ["LockgateInboxDead", "LockgateNoLeader", "LockgateNoWorker"];
    let now: std::collections::BTreeSet<_> = reader.firing().await.into_iter().collect();
    assert_eq!(now, firing.into());
    sqlx::query("delete from lockgate.inbox_dead where received_at > clock_timestamp() - interval '30 minutes'")
        .execute(&cluster.pool)
        .await
        .unwrap();
    assert_eq!(reader.firing().await, firing[1..], "those of earlier are known");
}
