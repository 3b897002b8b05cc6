//! What a benchmark found, as JSON for machines and as a table for people.

use std::fmt::Write as _;

use serde::Serialize;

use super::meters::Cpu;

/// The whole of it: the dense case at the top, the sparse one under `sparse`, all they were made of under `parts`.
#[derive(Debug, Serialize)]
pub struct FanoutReport {
    /// Every id of the range.
    #[serde(flatten)]
    pub dense: Option<Case>,
    /// A scattered 30 in 100.
    pub sparse: Option<Case>,
    /// What the figures were made of.
    pub parts: Parts,
}

/// The medians over the pairs of one case.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Case {
    /// Items sent by each side.
    pub items: i64,
    /// The engine, planning included.
    pub engine_items_per_s: f64,
    /// The hand-written loop.
    pub baseline_items_per_s: f64,
    /// The producer alone, no database.
    pub raw_producer_items_per_s: f64,
    /// Engine by baseline, the median of the pairs.
    pub ratio: f64,
    /// Processor time of client, Postgres and broker together.
    pub cpu_us_per_item: f64,
    /// The same of the loop.
    pub baseline_cpu_us_per_item: f64,
    /// From start to completion, audit included, full-page images left out.
    pub wal_bytes_per_item: f64,
    /// Full-page images.
    pub wal_fpi_bytes_per_item: f64,
    /// Transactions that wrote.
    pub commits_per_batch: f64,
    /// Of the process, the benchmark itself included; the highest of the pairs.
    pub peak_rss_mib: f64,
}

/// What the figures were made of.
#[derive(Debug, Default, Serialize)]
pub struct Parts {
    /// How each was taken.
    pub how: Vec<String>,
    /// Processors of the machine.
    pub processors: usize,
    /// Every dense pair.
    pub dense: Vec<Pair>,
    /// Every sparse pair.
    pub sparse: Vec<Pair>,
    /// Start of a run on an idle system to the end of its first batch.
    pub first_ack: Option<Latency>,
    /// Peak memory by number of items.
    pub memory: Vec<Memory>,
    /// Dead rows in the engine's tables, before the first run and after each.
    pub dead_tuples: Vec<i64>,
}

/// One pair: engine and baseline one after the other.
#[derive(Debug, Clone, Serialize)]
pub struct Pair {
    /// The engine.
    pub engine: Sample,
    /// The hand-written loop.
    pub baseline: Sample,
    /// The producer alone.
    pub raw_producer_items_per_s: f64,
    /// Engine by baseline.
    pub ratio: f64,
    /// How often the pair was repeated because the baseline was too slow to be quoted.
    pub repeated: u32,
}

/// One measurement.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Sample {
    /// Throughput.
    pub items_per_s: f64,
    /// Processor time by process.
    pub cpu_us_per_item: Cpu,
    /// Without full-page images.
    pub wal_bytes_per_item: f64,
    /// Full-page images.
    pub wal_fpi_bytes_per_item: f64,
    /// Transactions that wrote.
    pub commits_per_batch: f64,
    /// Of the process.
    pub peak_rss_mib: f64,
}

/// Times of many runs of one item each.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Latency {
    /// How many runs.
    pub runs: usize,
    /// The middle one.
    pub p50_ms: f64,
    /// All but one in a hundred.
    pub p99_ms: f64,
}

/// Peak memory of a run.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Memory {
    /// Items of the run.
    pub items: i64,
    /// Of the process.
    pub peak_rss_mib: f64,
}

impl Case {
    /// The medians of pairs.
    pub(super) fn of(items: i64, pairs: &[Pair]) -> Option<Self> {
        if pairs.is_empty() {
            return None;
        }
        let middle = |value: &dyn Fn(&Pair) -> f64| median(pairs.iter().map(value).collect());
        Some(Self {
            items,
            engine_items_per_s: middle(&|pair| pair.engine.items_per_s),
            baseline_items_per_s: middle(&|pair| pair.baseline.items_per_s),
            raw_producer_items_per_s: middle(&|pair| pair.raw_producer_items_per_s),
            ratio: middle(&|pair| pair.ratio),
            cpu_us_per_item: middle(&|pair| pair.engine.cpu_us_per_item.sum()),
            baseline_cpu_us_per_item: middle(&|pair| pair.baseline.cpu_us_per_item.sum()),
            wal_bytes_per_item: middle(&|pair| pair.engine.wal_bytes_per_item),
            wal_fpi_bytes_per_item: middle(&|pair| pair.engine.wal_fpi_bytes_per_item),
            commits_per_batch: middle(&|pair| pair.engine.commits_per_batch),
            peak_rss_mib: pairs.iter().map(|pair| pair.engine.peak_rss_mib).fold(0.0, f64::max),
        })
    }
}

/// The middle value; of an even number the mean of the two in the middle.
pub(super) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let half = values.len() / 2;
    match values.len() {
        0 => 0.0,
        odd if odd % 2 == 1 => values[half],
        _ => f64::midpoint(values[half - 1], values[half]),
    }
}

impl FanoutReport {
    /// For people.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = String::new();
        for (name, case, pairs) in [
            ("dense", self.dense, &self.parts.dense),
            ("sparse", self.sparse, &self.parts.sparse),
        ] {
            if let Some(case) = case {
                // Writing to a string cannot fail.
                let _ = write_case(&mut text, name, &case, pairs);
            }
        }
        let _ = self.write_rest(&mut text);
        text
    }

    fn write_rest(&self, text: &mut String) -> std::fmt::Result {
        if let Some(first) = self.parts.first_ack {
            writeln!(
                text,
                "start to first batch acknowledged, idle system, {} runs: p50 {:.1} ms, p99 {:.1} ms",
                first.runs, first.p50_ms, first.p99_ms
            )?;
        }
        for memory in &self.parts.memory {
            writeln!(
                text,
                "peak memory at {} items: {:.0} MiB",
                memory.items, memory.peak_rss_mib
            )?;
        }
        writeln!(
            text,
            "dead rows, before and after each run: {:?}",
            self.parts.dead_tuples
        )?;
        for how in &self.parts.how {
            writeln!(text, "  {how}")?;
        }
        Ok(())
    }
}

fn write_case(text: &mut String, name: &str, case: &Case, pairs: &[Pair]) -> std::fmt::Result {
    writeln!(
        text,
        "{name}: {} items, {} pairs, engine / baseline = {:.2}",
        case.items,
        pairs.len(),
        case.ratio
    )?;
    writeln!(
        text,
        "  {:<22}{:>11}{:>9}{:>9}{:>9}{:>9}{:>8}{:>8}{:>9}{:>8}",
        "", "items/s", "cpu us", "client", "postgres", "kafka", "wal B", "fpi B", "commits", "rss MiB"
    )?;
    for pair in pairs {
        write_sample(text, "engine", &pair.engine)?;
        write_sample(text, "baseline", &pair.baseline)?;
        writeln!(
            text,
            "  {:<22}{:>11.0}   ratio {:.2}",
            "raw producer", pair.raw_producer_items_per_s, pair.ratio
        )?;
    }
    Ok(())
}

fn write_sample(text: &mut String, name: &str, sample: &Sample) -> std::fmt::Result {
    let cpu = sample.cpu_us_per_item;
    let or_dash = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), |value| format!("{value:.2}"));
    writeln!(
        text,
        "  {name:<22}{:>11.0}{:>9.2}{:>9.2}{:>9}{:>9}{:>8.2}{:>8.2}{:>9.2}{:>8.0}",
        sample.items_per_s,
        cpu.sum(),
        cpu.client,
        or_dash(cpu.postgres),
        or_dash(cpu.kafka),
        sample.wal_bytes_per_item,
        sample.wal_fpi_bytes_per_item,
        sample.commits_per_batch,
        sample.peak_rss_mib
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle_or_the_mean_of_the_two_in_the_middle() {
        assert_eq!(median(vec![3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(vec![4.0, 1.0, 2.0, 3.0]), 2.5);
        assert_eq!(median(vec![]), 0.0);
    }
}
