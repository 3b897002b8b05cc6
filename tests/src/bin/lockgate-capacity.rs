//! Writes what `make bench-capacity`, `make bench-replicas` and `make bench-telemetry` have found into docs/capacity.md.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::Parser;
use serde_json::Value;

const BEGIN: &str = "<!-- figures: written by lockgate-capacity from target/bench -->\n";
const END: &str = "<!-- /figures -->\n";

/// Writes what `make bench-capacity`, `make bench-replicas` and `make bench-telemetry` have found into docs/capacity.md
#[derive(Parser)]
struct Args {
    /// Where they have left it
    #[arg(long, value_name = "FOLDER")]
    bench: Option<PathBuf>,
}

fn main() -> anyhow::Result<()> {
    let root = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."));
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from);
    let bench = Args::parse().bench.unwrap_or_else(|| target.join("bench"));
    let read = |name: &str| -> anyhow::Result<Value> {
        let file = bench.join(name);
        let text =
            std::fs::read_to_string(&file).with_context(|| format!("{}: run the benchmark first", file.display()))?;
        serde_json::from_str(&text).with_context(|| file.display().to_string())
    };
    let (capacity, replicas) = (read("capacity.json")?, read("replicas.json")?);
    let telemetry = read("telemetry.json")?;
    let path = root.join("docs/capacity.md");
    let page = std::fs::read_to_string(&path)?;
    let (head, rest) = page.split_once(BEGIN).context("the page has no place for figures")?;
    let (_, tail) = rest.split_once(END).context("the place for figures has no end")?;
    let figures = [
        batches(&capacity),
        idle(&capacity),
        rounds(&replicas),
        telling(&telemetry),
    ];
    let figures = figures.join("\n");
    std::fs::write(path, format!("{head}{BEGIN}{figures}{END}{tail}"))?;
    Ok(())
}

fn list<'a>(value: &'a Value, name: &str) -> impl Iterator<Item = &'a Value> {
    value[name].as_array().into_iter().flatten()
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or(f64::NAN)
}

/// Processor time by process.
fn processors(cpu: &Value) -> String {
    let part = |name: &str| cpu[name].as_f64().map_or("?".to_owned(), |us| format!("{us:.1}"));
    format!("{} + {} + {}", part("client"), part("postgres"), part("kafka"))
}

fn batches(capacity: &Value) -> String {
    let mut out = format!(
        "Items by the size of their batches, on {} processors that replica, Postgres and broker share (`make bench-capacity`):\n\n\
         | batch | ids | items/s | CPU µs an item: replica + Postgres + broker | WAL bytes an item | commits a 1,000 items | MiB |\n\
         | --- | --- | --- | --- | --- | --- | --- |\n",
        capacity["processors"]
    );
    for batch in list(capacity, "batches") {
        let _ = writeln!(
            out,
            "| {} | {} | {:.0} | {} | {:.2} | {:.2} | {:.0} |",
            batch["size"],
            batch["density"].as_str().unwrap_or_default(),
            number(&batch["items_per_s"]),
            processors(&batch["cpu_us"]),
            number(&batch["wal_bytes"]),
            number(&batch["commits_per_1000"]),
            number(&batch["peak_rss_mib"]),
        );
    }
    out
}

fn idle(capacity: &Value) -> String {
    let mut out = "Replicas that have nothing to do, one of them leading:\n\n\
         | replicas | processor each | of Postgres, for all | transactions/s, all | WAL an hour, all | connections each | MiB each |\n\
         | --- | --- | --- | --- | --- | --- | --- |\n"
        .to_owned();
    for idle in list(capacity, "idle") {
        let _ = writeln!(
            out,
            "| {} | {:.2} % | {:.2} % | {:.1} | {:.1} MB | {:.0} | {:.0} |",
            idle["replicas"],
            number(&idle["cores_each"]) * 100.0,
            number(&idle["postgres_cores"]) * 100.0,
            number(&idle["transactions_per_s"]),
            number(&idle["wal_bytes_per_hour"]) / 1e6,
            number(&idle["connections_each"]),
            number(&idle["peak_rss_mib"]),
        );
    }
    out
}

fn rounds(replicas: &Value) -> String {
    let mut out = format!(
        "Replicas as processes of one machine with {} processors, which they share with Postgres and the broker (`make bench-replicas`); \
         sessions: how many of Postgres's did what on average:\n\n\
         | replicas | | per s | CPU µs: replicas + Postgres + broker | of the machine | WAL bytes | commits | sessions |\n\
         | --- | --- | --- | --- | --- | --- | --- | --- |\n",
        replicas["processors"]
    );
    for round in list(replicas, "rounds") {
        for (what, work) in [("items", &round["items"]), ("runs of 3 steps", &round["runs"])] {
            let sessions = list(work, "sessions").take(3);
            let sessions: Vec<String> = sessions
                .map(|session| format!("{} {:.1}", session[0].as_str().unwrap_or_default(), number(&session[1])))
                .collect();
            let _ = writeln!(
                out,
                "| {} | {what} | {:.0} | {} | {:.0} % | {:.1} | {:.3} | {} |",
                round["replicas"],
                number(&work["per_s"]),
                processors(&work["cpu_us"]),
                number(&work["machine_used"]) * 100.0,
                number(&work["wal_bytes"]),
                number(&work["commits"]),
                sessions.join(", "),
            );
        }
    }
    out + "\n" + &connections(replicas)
}

fn connections(replicas: &Value) -> String {
    let told = list(replicas, "rounds").map(|round| {
        let noun = if round["replicas"] == 1 { "replica" } else { "replicas" };
        format!("{} {noun}: at most {}", round["replicas"], round["connections"])
    });
    let told: Vec<String> = told.collect();
    format!(
        "Connections under that load, the benchmark's own included: {}.\n",
        told.join("; ")
    )
}

fn telling(telemetry: &Value) -> String {
    let mut out = format!(
        "What telling a collector costs, by the default sampling (`make bench-telemetry`, {} rounds of two replicas that tell and two \
         that do not; in brackets the least and the greatest of a round; the collector, a process of its own, used {:.1} % of a processor):\n\n\
         | | speed, of that without | asked | processor time of the replica, of that without | µs of it |\n\
         | --- | --- | --- | --- | --- |\n",
        list(telemetry, "rounds").count(),
        number(&telemetry["sink_cores"]) * 100.0
    );
    for (what, name, asked) in [
        ("an item", "items", "0.97"),
        ("a run of 3 steps", "runs", "0.95"),
        ("a run without steps", "stepless", "0.95"),
    ] {
        let cost = &telemetry[name];
        let ratio = |of: &str| {
            let (least, greatest) = (&cost[format!("{of}_between")][0], &cost[format!("{of}_between")][1]);
            let ratio = number(&cost[format!("{of}_ratio")]);
            format!("{ratio:.3} ({:.3} to {:.3})", number(least), number(greatest))
        };
        let _ = writeln!(
            out,
            "| {what} | {} | {asked} | {} | {:.2} with, {:.2} without |",
            ratio("speed"),
            ratio("cpu"),
            number(&cost["cpu_us_on"]),
            number(&cost["cpu_us_off"]),
        );
    }
    out
}
