//! The ready-made `lockgate` binary: the shipped workflows and the whole command line.

use std::process::ExitCode;

use lockgate::Engine;
use lockgate_workflows::shop::Payments;
use lockgate_workflows::{ApproveExpense, DailyTaskReports, ProcessOrder, TaskReminder, TaskReminders, bench, demo};

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    let engine = Engine::builder()
        .workflow(DailyTaskReports)
        .workflow(TaskReminders)
        .workflow(TaskReminder)
        .workflow(ProcessOrder)
        .workflow(ApproveExpense)
        .resource(Payments::from_env());
    lockgate::cli::main(engine.command(demo::demo).command(bench::bench))
}
