//! `lockgate bench telemetry`: what it costs a replica to tell a collector of its work, with the default sampling. The same work
//! is done by a replica that tells one and by a replica that tells nobody, in pairs whose order alternates.

use std::fmt::Write as _;

use serde::Serialize;

use super::meters::{Meters, processors};
use super::place::Place;
use super::processes::Processes;
use super::replica::fan_out;
use super::replicas::{Bench, Work};
use super::telemetry_sink::Sink;
use super::workflows::{Nothing, ThreeSteps};
use super::workload::Density;

/// What to measure.
#[derive(Debug, Clone)]
pub struct TelemetrySettings {
    /// A server on which the benchmark may make a database.
    pub database_url: String,
    /// The brokers.
    pub brokers: String,
    /// Items of each fan-out.
    pub items: i64,
    /// Runs of each backlog.
    pub runs: usize,
    /// Pairs; the ratios are their medians.
    pub pairs: usize,
}

/// What was found. A ratio is the speed of the replica that tells by that of the one that does not.
#[derive(Debug, Serialize)]
pub struct TelemetryReport {
    /// How each figure was taken.
    pub how: Vec<String>,
    /// Processors of the machine.
    pub processors: usize,
    /// Items a second; at least 0.97 is asked for.
    pub fanout_ratio: f64,
    /// Runs of three steps a second; at least 0.95 is asked for.
    pub workflows_ratio: f64,
    /// Runs without steps a second; at least 0.95 is asked for.
    pub stepless_ratio: f64,
    /// Processor time that the replica and this process use for an item, by that of the one that does not tell: steadier than
    /// speed where other things run.
    pub fanout_cpu_ratio: f64,
    /// The same of a run of three steps.
    pub workflows_cpu_ratio: f64,
    /// The same of a run without steps.
    pub stepless_cpu_ratio: f64,
    /// Each pair.
    pub pairs: Vec<TelemetryPair>,
}

/// One replica that tells, and one that does not.
#[derive(Debug, Serialize)]
pub struct TelemetryPair {
    /// The one that tells.
    pub on: Side,
    /// The one that does not.
    pub off: Side,
    /// Bytes of traces that came, not compressed.
    pub trace_bytes: u64,
    /// Bytes of metrics and logs that came.
    pub other_bytes: u64,
}

/// The work of one of them.
#[derive(Debug, Serialize)]
pub struct Side {
    /// Items of a fan-out.
    pub items: Speed,
    /// Runs of three steps.
    pub runs: Speed,
    /// Runs without steps.
    pub stepless: Speed,
}

/// Some work.
#[derive(Debug, Serialize)]
pub struct Speed {
    /// How many in a second.
    pub per_s: f64,
    /// Processor time of one, of the replica and this process.
    pub client_cpu_us: f64,
}

impl From<Work> for Speed {
    fn from(work: Work) -> Self {
        Self {
            per_s: work.per_s,
            client_cpu_us: work.cpu_us.client,
        }
    }
}

/// Measures it, telling `progress` where it is.
///
/// # Errors
/// A server cannot be used, something was not done, or nothing was told.
pub async fn telemetry(
    settings: &TelemetrySettings,
    progress: &(dyn Fn(&str) + Send + Sync),
) -> anyhow::Result<TelemetryReport> {
    let work = async |place: &Place| measure(place, settings, progress).await;
    Place::lent(&settings.database_url, &settings.brokers, work).await
}

async fn measure(
    place: &Place,
    settings: &TelemetrySettings,
    progress: &(dyn Fn(&str) + Send + Sync),
) -> anyhow::Result<TelemetryReport> {
    place.seed(settings.items, progress).await?;
    let meters = Meters::find(&place.pool).await?;
    let (how, processors) = (meters.how(), processors());
    let mut bench = Bench {
        place,
        meters,
        processors: processors as f64,
    };
    let sink = Sink::start().await?;
    let mut pairs = Vec::new();
    for number in 0..settings.pairs {
        let pair = bench.pair(settings, &sink, number.is_multiple_of(2)).await?;
        let ratio = |of: fn(&Side) -> &Speed| of(&pair.on).per_s / of(&pair.off).per_s;
        progress(&format!(
            "pair {} of {}: items {:.3}, runs {:.3}, without steps {:.3}",
            number + 1,
            settings.pairs,
            ratio(|side| &side.items),
            ratio(|side| &side.runs),
            ratio(|side| &side.stepless)
        ));
        pairs.push(pair);
    }
    Ok(report(how, processors, pairs))
}

impl Bench<'_> {
    async fn pair(
        &mut self,
        settings: &TelemetrySettings,
        sink: &Sink,
        on_first: bool,
    ) -> anyhow::Result<TelemetryPair> {
        let (mut on, mut off) = (None, None);
        for tells in [on_first, !on_first] {
            let telling = match tells {
                true => ("OTEL_EXPORTER_OTLP_ENDPOINT", sink.endpoint.as_str()),
                false => ("OTEL_SDK_DISABLED", "true"),
            };
            let side = self.side(settings, telling).await?;
            let taken = sink.taken();
            if tells {
                anyhow::ensure!(taken.0 > 0 && taken.1 > 0, "the replica told nothing");
                on = Some((side, taken));
            } else {
                anyhow::ensure!(taken == (0, 0), "the replica told something that was to tell nothing");
                off = Some(side);
            }
        }
        let (Some((on, taken)), Some(off)) = (on, off) else {
            anyhow::bail!("a pair has two sides");
        };
        Ok(TelemetryPair {
            on,
            off,
            trace_bytes: taken.0,
            other_bytes: taken.1,
        })
    }

    async fn side(&mut self, settings: &TelemetrySettings, telling: (&str, &str)) -> anyhow::Result<Side> {
        let topic = self.place.make_topic().await?;
        let processes = Processes::start_with(self.place, &topic, 1, telling).await?;
        self.meters.with_replicas(processes.pids());
        // Whoever is first would pay for what a broker compiles while it works.
        fan_out(&self.place.pool, (Density::Dense, 1, 1), || true).await?;
        let side = Side {
            items: self.items(settings.items).await?.0.into(),
            runs: self.runs::<ThreeSteps>(settings.runs).await?.0.into(),
            stepless: self.runs::<Nothing>(settings.runs).await?.0.into(),
        };
        processes.stop().await?;
        self.meters.with_replicas(Vec::new());
        self.place.remove_topic(&topic).await?;
        Ok(side)
    }
}

fn report(how: Vec<String>, processors: usize, pairs: Vec<TelemetryPair>) -> TelemetryReport {
    let median = |of: fn(&Side) -> f64| {
        let mut ratios: Vec<f64> = pairs.iter().map(|pair| of(&pair.on) / of(&pair.off)).collect();
        ratios.sort_by(f64::total_cmp);
        let (below, above) = ((ratios.len().max(1) - 1) / 2, ratios.len() / 2);
        let at = |place: usize| ratios.get(place).copied().unwrap_or(f64::NAN);
        f64::midpoint(at(below), at(above))
    };
    TelemetryReport {
        how,
        processors,
        fanout_ratio: median(|side| side.items.per_s),
        workflows_ratio: median(|side| side.runs.per_s),
        stepless_ratio: median(|side| side.stepless.per_s),
        fanout_cpu_ratio: median(|side| side.items.client_cpu_us),
        workflows_cpu_ratio: median(|side| side.runs.client_cpu_us),
        stepless_cpu_ratio: median(|side| side.stepless.client_cpu_us),
        pairs,
    }
}

impl TelemetryReport {
    /// For people.
    #[must_use]
    pub fn text(&self) -> String {
        let mut out = format!(
            "{} processors, medians of {} pairs\n",
            self.processors,
            self.pairs.len()
        );
        for (what, ratio, cpu, asked) in [
            ("items of a fan-out", self.fanout_ratio, self.fanout_cpu_ratio, 0.97),
            (
                "runs of three steps",
                self.workflows_ratio,
                self.workflows_cpu_ratio,
                0.95,
            ),
            ("runs without steps", self.stepless_ratio, self.stepless_cpu_ratio, 0.95),
        ] {
            let _ = writeln!(
                out,
                "{what}: {ratio:.3} of the speed without telling (asked {asked}), {cpu:.3} of the processor time"
            );
        }
        out
    }
}
