//! The ready-made `lockgate` binary: the shipped workflows and the whole command line.

use std::process::ExitCode;

use lockgate::Engine;
use lockgate_workflows::{DailyTaskReports, demo};

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    lockgate::cli::main(Engine::builder().workflow(DailyTaskReports).command(demo::demo))
}
