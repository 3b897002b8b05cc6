//! The suite of stores of runs whose code is run, against each of them.
#![allow(clippy::unwrap_used)]

use std::time::Duration;

use lockgate_tests::conformance::runs::{MemoryWorld, PostgresWorld, RunCase};
use lockgate_tests::every_run_case;

/// So long that no lease ends by itself, however slow the machine.
const LEASE: Duration = Duration::from_secs(3_600);

macro_rules! test_each_case {
    ($($verb:ident { $($case:ident,)+ })+) => {
        mod memory {
            use super::{LEASE, MemoryWorld, RunCase};
            $($(
                #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
                async fn $case() {
                    RunCase::$case.check(&MemoryWorld::new(LEASE)).await;
                }
            )+)+
        }
        mod postgres {
            use super::{LEASE, PostgresWorld, RunCase};
            $($(
                #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
                async fn $case() {
                    RunCase::$case.check(&PostgresWorld::direct(LEASE).await).await;
                }
            )+)+
        }
        mod postgres_in_pooler_mode {
            use super::{LEASE, PostgresWorld, RunCase};
            $($(
                #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
                async fn $case() {
                    RunCase::$case.check(&PostgresWorld::pooled(LEASE).await).await;
                }
            )+)+
        }
    };
}
every_run_case!(test_each_case);
