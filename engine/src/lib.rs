//! Lockgate: a durable workflow engine on Postgres alone, which streams batches into Kafka and proves what was delivered.
//!
//! A workflow is an ordinary async function. What it does in steps is recorded in Postgres; when a process dies, another runs
//! the function again, gets from the record what each step came to, and goes on where the record ends.
//!
//! ```no_run
//! use std::process::ExitCode;
//! use std::time::Duration;
//!
//! use lockgate::Engine;
//! use lockgate::workflow::{Context, Workflow};
//!
//! struct Greet;
//!
//! impl Workflow for Greet {
//!     const NAME: &'static str = "greet";
//!     type Input = String;
//!     type Output = String;
//!
//!     async fn run(&self, ctx: Context, name: String) -> anyhow::Result<String> {
//!         let greeting: String = ctx.step("greet", move || greet(name.clone())).await?;
//!         ctx.sleep(Duration::from_secs(24 * 3600)).await?;
//!         Ok(greeting)
//!     }
//! }
//!
//! async fn greet(name: String) -> anyhow::Result<String> {
//!     Ok(format!("Hello, {name}"))
//! }
//!
//! fn main() -> ExitCode {
//!     // The worker and the whole command line: `run`, `start greet --params '"Ada"'`, `runs why RUN`, …
//!     lockgate::cli::main(Engine::builder().workflow(Greet))
//! }
//! ```
//!
//! | to | see |
//! | --- | --- |
//! | write workflows | [`workflow`]; sources of fan-outs: [`postgres::SqlSource`] |
//! | make a binary of them | [`Engine`], [`cli`], [`config`] |
//! | start runs, signal them, wait for them | [`client`] |
//! | hand over commands | [`orchestrator`], [`delivery`]; in your own transaction: [`postgres::Outbox`] |
//! | consume what was sent, once | [`postgres::Inbox`] |
//! | test workflows | `testing`, with the feature of that name, for dev-dependencies |
//! | look at runs, schedules, queues, and act on them | [`inspect`], [`postgres`], [`verify`] |
//! | serve HTTP, probes and telemetry | [`api`], [`health`], [`telemetry`] |
//! | understand what it is made of | [`trigger`], [`lifecycle`], [`execution`], [`leader`]; adapters: [`postgres`], [`kafka`], [`memory`] |
//!
//! The feature `failpoints` compiles in the places at which Lockgate's own tests let a process die; nobody else needs it.
//! Manuals are in `docs` of the repository, the decisions behind all this in `ARCHITECTURE.md`.

pub mod api;
mod brokers;
pub mod cli;
pub mod client;
pub mod config;
#[cfg(feature = "failpoints")]
#[doc(hidden)]
pub mod crash;
pub mod delivery;
mod direct;
mod engine;
pub mod execution;
pub mod health;
pub mod inspect;
pub mod kafka;
pub mod leader;
pub mod lifecycle;
mod local;
pub mod memory;
pub mod postgres;
mod secured;
mod serving;
mod settings;
pub mod telemetry;
#[cfg(feature = "testing")]
pub mod testing;
pub mod trigger;
pub mod verify;
pub mod workflow;

pub use brokers::kafka_config;
pub use direct::orchestrator;
pub use engine::{Engine, EngineBuilder};
