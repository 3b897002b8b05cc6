//! `/health/live`, `/health/ready` and `/metrics`, told at an address of their own by every role.

use std::time::Duration;

use anyhow::Context as _;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::{Health, Report};
use crate::api::serve_router;
use crate::telemetry::scrape;

/// Probes come one at a time; more connections than this are somebody's mistake.
const CONNECTIONS: usize = 64;
/// A probe that is being answered when the process ends.
const DRAIN: Duration = Duration::from_secs(1);

/// Tells the health at an address, if there is one, until `over`: that is when the process ends, for a replica that drains
/// is live and not ready.
///
/// # Errors
/// The address cannot be had.
pub async fn tell(listen: Option<&str>, health: &Health, over: CancellationToken) -> anyhow::Result<()> {
    let Some(listen) = listen else { return Ok(()) };
    let listener = TcpListener::bind(listen).await;
    let listener = listener.with_context(|| format!("health cannot be told at {listen}"))?;
    let address = listener.local_addr()?;
    tracing::info!(name: "health_told", %address, "health is told at /health/live and /health/ready, metrics at /metrics");
    let router = Router::new()
        .route(
            "/health/live",
            get(async |State(health): State<Health>| answer(health.live())),
        )
        .route(
            "/health/ready",
            get(async |State(health): State<Health>| answer(health.ready())),
        )
        .route("/metrics", get(metrics))
        .with_state(health.clone());
    tokio::spawn(serve_router(listener, router, CONNECTIONS, DRAIN, over));
    Ok(())
}

async fn metrics() -> Response {
    match scrape::text().await {
        Some(text) => ([(CONTENT_TYPE, scrape::MEDIA_TYPE)], text).into_response(),
        None => StatusCode::SERVICE_UNAVAILABLE.into_response(),
    }
}

fn answer(report: Report) -> Response {
    let status = match report.ok {
        true => StatusCode::OK,
        false => StatusCode::SERVICE_UNAVAILABLE,
    };
    (status, Json(report)).into_response()
}
