//! `lockgate bench telemetry`: what it costs a replica to tell a collector of its work, with the default sampling. The same work
//! is done by a replica that tells one and by a replica that tells nobody, in rounds in which either is first and last as often.

use std::fmt::Write as _;

use serde::Serialize;
use sqlx::Executor as _;

use super::meters::{Meters, processors};
use super::place::Place;
use super::processes::Processes;
use super::replica::fan_out;
use super::replicas::{Bench, Work};
use super::telemetry_sink::{Sink, Taken};
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
    /// Rounds; the ratios are their medians.
    pub rounds: usize,
}

/// What was found. A ratio is that of the replica that tells to the one that does not.
#[derive(Debug, Serialize)]
pub struct TelemetryReport {
    /// How each figure was taken.
    pub how: Vec<String>,
    /// Processors of the machine.
    pub processors: usize,
    /// Items of a fan-out; at least 0.97 of the speed is asked for.
    pub items: Cost,
    /// Runs of three steps; at least 0.95.
    pub runs: Cost,
    /// Runs without steps; at least 0.95.
    pub stepless: Cost,
    /// Processor seconds that the sink used of each second that a replica told it of its work; in no other figure.
    pub sink_cores: f64,
    /// Each round.
    pub rounds: Vec<TelemetryRound>,
}

/// What telling costs some work.
#[derive(Debug, Serialize)]
pub struct Cost {
    /// Of the speed, the median of the rounds.
    pub speed_ratio: f64,
    /// The least and the greatest of a round.
    pub speed_between: (f64, f64),
    /// Of the processor time of the replica alone: steadier than speed where other things run.
    pub cpu_ratio: f64,
    /// The least and the greatest of a round.
    pub cpu_between: (f64, f64),
    /// Processor time of the replica for one, of all sides that tell.
    pub cpu_us_on: f64,
    /// The same of all that do not.
    pub cpu_us_off: f64,
}

/// Two replicas that tell and two that do not, one after the other: on, off, off, on or the other way round, so that what
/// changes evenly with time changes neither.
#[derive(Debug, Serialize)]
pub struct TelemetryRound {
    /// Those that tell.
    pub on: Vec<Side>,
    /// Those that do not.
    pub off: Vec<Side>,
    /// Bytes of traces that came, not compressed.
    pub trace_bytes: u64,
    /// Bytes of metrics and logs that came.
    pub other_bytes: u64,
    /// Processor seconds of the sink.
    pub sink_cpu_s: f64,
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
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Speed {
    /// How many in a second.
    pub per_s: f64,
    /// Processor time of one, of the replica alone.
    pub cpu_us: f64,
    /// How long all of it took.
    pub took_s: f64,
}

/// Runs that a replica does before it is measured: connections, plans, pages of its memory.
const WARM_UP: usize = 2_000;

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
    let mut sink = Sink::start().await?;
    let mut rounds = Vec::new();
    for number in 0..settings.rounds {
        let round = bench.told_round(settings, &mut sink, number.is_multiple_of(2)).await?;
        let of = |speed: fn(&Side) -> Speed| (round.speed(speed), round.cpu(speed));
        let (items, runs, stepless) = (of(|side| side.items), of(|side| side.runs), of(|side| side.stepless));
        progress(&format!(
            "round {} of {}, speed and processor: items {:.3} {:.3}, runs {:.3} {:.3}, without steps {:.3} {:.3}",
            number + 1,
            settings.rounds,
            items.0,
            items.1,
            runs.0,
            runs.1,
            stepless.0,
            stepless.1,
        ));
        rounds.push(round);
    }
    Ok(report(how, processors, rounds))
}

impl Bench<'_> {
    async fn told_round(
        &mut self,
        settings: &TelemetrySettings,
        sink: &mut Sink,
        on_first: bool,
    ) -> anyhow::Result<TelemetryRound> {
        let mut round = TelemetryRound {
            on: Vec::new(),
            off: Vec::new(),
            trace_bytes: 0,
            other_bytes: 0,
            sink_cpu_s: -sink.cpu_s(),
        };
        for tells in [on_first, !on_first, !on_first, on_first] {
            let endpoint = sink.endpoint.clone();
            let telling = match tells {
                true => ("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint.as_str()),
                false => ("OTEL_SDK_DISABLED", "true"),
            };
            let side = self.side(settings, telling).await?;
            let Taken { traces, others } = sink.taken().await?;
            round.trace_bytes += traces;
            round.other_bytes += others;
            if tells {
                anyhow::ensure!(traces > 0 && others > 0, "the replica told nothing");
                round.on.push(side);
            } else {
                let told = traces + others;
                anyhow::ensure!(told == 0, "the replica told something that was to tell nothing");
                round.off.push(side);
            }
        }
        round.sink_cpu_s += sink.cpu_s();
        Ok(round)
    }

    async fn side(&mut self, settings: &TelemetrySettings, telling: (&str, &str)) -> anyhow::Result<Side> {
        // Each begins with as much behind it as the others.
        self.place.pool.execute("truncate lockgate.task_runs cascade").await?;
        self.place.pool.execute("vacuum (analyze)").await?;
        let topic = self.place.make_topic().await?;
        let processes = Processes::start_with(self.place, &topic, 1, telling).await?;
        self.meters.with_replicas(processes.pids());
        // Whoever is first would pay for what a broker compiles while it works.
        fan_out(&self.place.pool, (Density::Dense, 1, 1), || true).await?;
        self.runs::<ThreeSteps>(WARM_UP).await?;
        let (items, runs) = (settings.items, settings.runs);
        let side = Side {
            items: self.speed(items as f64, self.items(items)).await?,
            runs: self.speed(runs as f64, self.runs::<ThreeSteps>(runs)).await?,
            stepless: self.speed(runs as f64, self.runs::<Nothing>(runs)).await?,
        };
        processes.stop().await?;
        self.meters.with_replicas(Vec::new());
        self.place.remove_topic(&topic).await?;
        Ok(side)
    }

    async fn speed(&self, done: f64, work: impl Future<Output = anyhow::Result<(Work, i64)>>) -> anyhow::Result<Speed> {
        let before = self.meters.replicas_s();
        let (work, _) = work.await?;
        Ok(Speed {
            per_s: work.per_s,
            cpu_us: (self.meters.replicas_s() - before) * 1e6 / done,
            took_s: done / work.per_s,
        })
    }
}

impl TelemetryRound {
    /// Of the time that those took that do not tell, by that of those that do.
    fn speed(&self, of: fn(&Side) -> Speed) -> f64 {
        let took = |sides: &[Side]| sides.iter().map(|side| of(side).took_s).sum::<f64>();
        took(&self.off) / took(&self.on)
    }

    fn cpu(&self, of: fn(&Side) -> Speed) -> f64 {
        let used = |sides: &[Side]| sides.iter().map(|side| of(side).cpu_us).sum::<f64>();
        used(&self.on) / used(&self.off)
    }

    fn told_s(&self) -> f64 {
        let of = |side: &Side| side.items.took_s + side.runs.took_s + side.stepless.took_s;
        self.on.iter().map(of).sum()
    }
}

fn report(how: Vec<String>, processors: usize, rounds: Vec<TelemetryRound>) -> TelemetryReport {
    let told_s: f64 = rounds.iter().map(TelemetryRound::told_s).sum();
    let sink_s: f64 = rounds.iter().map(|round| round.sink_cpu_s).sum();
    TelemetryReport {
        how,
        processors,
        items: cost(&rounds, |side| side.items),
        runs: cost(&rounds, |side| side.runs),
        stepless: cost(&rounds, |side| side.stepless),
        sink_cores: sink_s / told_s,
        rounds,
    }
}

fn cost(rounds: &[TelemetryRound], of: fn(&Side) -> Speed) -> Cost {
    let (speeds, cpus): (Vec<f64>, Vec<f64>) = rounds.iter().map(|round| (round.speed(of), round.cpu(of))).unzip();
    let (speed_ratio, speed_between) = median(speeds);
    let (cpu_ratio, cpu_between) = median(cpus);
    let mean = |sides: fn(&TelemetryRound) -> &[Side]| {
        let all: Vec<f64> = rounds
            .iter()
            .flat_map(|round| sides(round).iter().map(|side| of(side).cpu_us))
            .collect();
        all.iter().sum::<f64>() / all.len() as f64
    };
    Cost {
        speed_ratio,
        speed_between,
        cpu_ratio,
        cpu_between,
        cpu_us_on: mean(|round| &round.on),
        cpu_us_off: mean(|round| &round.off),
    }
}

/// The median, the least and the greatest.
fn median(mut all: Vec<f64>) -> (f64, (f64, f64)) {
    all.sort_by(f64::total_cmp);
    let (below, above) = ((all.len().max(1) - 1) / 2, all.len() / 2);
    let at = |place: usize| all.get(place).copied().unwrap_or(f64::NAN);
    (
        f64::midpoint(at(below), at(above)),
        (at(0), at(all.len().saturating_sub(1))),
    )
}

impl TelemetryReport {
    /// For people.
    #[must_use]
    pub fn text(&self) -> String {
        let mut out = format!(
            "{} processors, medians of {} rounds and the least and greatest of them\n",
            self.processors,
            self.rounds.len()
        );
        for (what, cost, asked) in [
            ("items of a fan-out", &self.items, 0.97),
            ("runs of three steps", &self.runs, 0.95),
            ("runs without steps", &self.stepless, 0.95),
        ] {
            let _ = writeln!(
                out,
                "{what}: {:.3} of the speed without telling ({:.3} to {:.3}, asked {asked}), {:.3} of the replica's processor \
                 time ({:.3} to {:.3}; {:.2} to {:.2} µs)",
                cost.speed_ratio,
                cost.speed_between.0,
                cost.speed_between.1,
                cost.cpu_ratio,
                cost.cpu_between.0,
                cost.cpu_between.1,
                cost.cpu_us_on,
                cost.cpu_us_off,
            );
        }
        let _ = writeln!(
            out,
            "the sink, a process of its own: {:.3} processors while it was told",
            self.sink_cores
        );
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn side(per_s: f64, cpu_us: f64) -> Side {
        let speed = Speed {
            per_s,
            cpu_us,
            took_s: 1_000.0 / per_s,
        };
        Side {
            items: speed,
            runs: speed,
            stepless: speed,
        }
    }

    #[test]
    fn what_changes_evenly_with_time_changes_no_ratio() {
        // Each side takes a tenth longer than the first took, and the telling costs nothing.
        let took = [1.0, 1.1, 1.2, 1.3].map(|times| side(1_000.0 / times, times));
        let [first, second, third, fourth] = took;
        let round = TelemetryRound {
            on: vec![first, fourth],
            off: vec![second, third],
            trace_bytes: 1,
            other_bytes: 1,
            sink_cpu_s: 1.0,
        };
        assert!((round.speed(|side| side.items) - 1.0).abs() < 1e-9);
        assert!((round.cpu(|side| side.runs) - 1.0).abs() < 1e-9);
    }

    #[test]
    fn the_median_of_an_even_number_lies_between_the_two_in_the_middle() {
        assert_eq!(median(vec![4.0, 1.0, 2.0, 3.0]), (2.5, (1.0, 4.0)));
        assert_eq!(median(vec![7.0]), (7.0, (7.0, 7.0)));
    }
}
