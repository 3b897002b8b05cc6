//! Dashboards, alert rules and the runbook: the files are what their source says, Grafana would find in them what it needs,
//! every query of a view is answered by a real Postgres, and every metric that a query names is one that is recorded (RC.6).
#![allow(clippy::unwrap_used, clippy::panic)]

mod files;
mod lint;
mod metrics;
mod rules;
mod views;
