//! What the system and the runtime say of this process.

use std::fs;

use tokio::runtime::{Handle, RuntimeMetrics};

use super::catalogue::*;
use super::closed::{Closed as _, CpuMode};
use super::meters::Meters;
use super::series::Watching;

/// How many of them the system counts in a second of a processor, on every architecture that Linux gives us.
const TICKS: f64 = 100.0;

/// Watches it, as long as the answer lives.
pub(super) fn watch(meters: &Meters) -> Vec<Watching> {
    let cpu = |mode: CpuMode, field| meters.watch(&PROCESS_CPU, &[mode.text()], move || cpu_time(field));
    let mut watching = vec![
        cpu(CpuMode::User, 11),
        cpu(CpuMode::System, 12),
        meters.watch(&PROCESS_MEMORY, &[], resident),
        meters.watch(&PROCESS_FILES, &[], || {
            Some(fs::read_dir("/proc/self/fd").ok()?.count() as f64)
        }),
    ];
    if let Ok(runtime) = Handle::try_current() {
        let runtime = runtime.metrics();
        let (tasks, queue) = (runtime.clone(), runtime.clone());
        watching.push(meters.watch(&RUNTIME_TASKS, &[], move || Some(tasks.num_alive_tasks() as f64)));
        watching.push(meters.watch(&RUNTIME_QUEUE, &[], move || Some(queue.global_queue_depth() as f64)));
        watching.push(meters.watch(&RUNTIME_BUSY, &[], move || Some(busy(&runtime))));
    }
    watching
}

/// Seconds of the processor, from the field after the name of the process, which may hold anything.
fn cpu_time(field: usize) -> Option<f64> {
    let stat = fs::read_to_string("/proc/self/stat").ok()?;
    let ticks: f64 = stat.rsplit_once(')')?.1.split_whitespace().nth(field)?.parse().ok()?;
    Some(ticks / TICKS)
}

fn resident() -> Option<f64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kilobytes: f64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kilobytes * 1024.0)
}

fn busy(runtime: &RuntimeMetrics) -> f64 {
    (0..runtime.num_workers())
        .map(|worker| runtime.worker_total_busy_duration(worker).as_secs_f64())
        .sum()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_system_tells_time_and_memory_of_this_process() {
        assert!(cpu_time(11).unwrap() >= 0.0);
        assert!(resident().unwrap() > 1_000_000.0);
    }
}
