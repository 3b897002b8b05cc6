//! The demo's registration: a service that writes its own rows and has an e-mail sent about it, whatever Kafka does.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::IntoResponse;
use axum::routing::post;
use axum::{Json, Router};
use lockgate::delivery::{Direct, EmailTriggerCommand, Handover, NotificationOrchestrator};
use serde::{Deserialize, Serialize};
use sqlx::PgPool;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// Who wants to be registered.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewUser {
    /// Where the welcome goes.
    pub email: String,
    /// What it says.
    pub name: String,
    /// In which language.
    pub locale: String,
}

/// Who was registered.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Registered {
    /// The new user.
    pub id: i64,
}

/// Registers users of the task tracker.
#[derive(Clone)]
pub struct Registration {
    pool: PgPool,
    orchestrator: NotificationOrchestrator,
}

impl Registration {
    /// Writes users through the pool and hands their welcome to the orchestrator.
    #[must_use]
    pub fn new(pool: PgPool, orchestrator: NotificationOrchestrator) -> Self {
        Self { pool, orchestrator }
    }

    /// Registers a user and has a welcome sent. The welcome costs the caller no time and can fail nothing: what becomes
    /// of it is the orchestrator's concern. A service that must not lose it when it is killed uses `Outbox::enqueue_in`
    /// in the transaction of the user instead.
    ///
    /// # Errors
    /// The database refused or did not answer; nobody was registered.
    pub async fn register(&self, new: NewUser) -> Result<Registered, sqlx::Error> {
        let id: i64 = sqlx::query_scalar(include_str!("../sql/register_user.sql"))
            .bind(&new.email)
            .bind(&new.name)
            .bind(&new.locale)
            .fetch_one(&self.pool)
            .await?;
        let command = Direct::new(welcome(id, new)).idempotency_key(&format!("registration-{id}"));
        match self.orchestrator.submit(command) {
            Handover::Accepted => {}
            Handover::Invalid(invalid) => {
                tracing::warn!(name: "welcome_invalid", user = id, %invalid, "no welcome can be sent")
            }
            Handover::NotAccepted(_) => {
                tracing::error!(name: "welcome_lost", user = id, "the welcome found no place and is lost")
            }
        }
        Ok(Registered { id })
    }

    /// Listens on an address of this machine and answers `POST /users` until told to stop.
    ///
    /// # Errors
    /// The address is taken.
    pub async fn serve(
        self,
        listen: SocketAddr,
        stop: CancellationToken,
    ) -> anyhow::Result<(SocketAddr, JoinHandle<std::io::Result<()>>)> {
        let listener = TcpListener::bind(listen).await?;
        let address = listener.local_addr()?;
        let routes = Router::new().route("/users", post(answer)).with_state(Arc::new(self));
        let server = axum::serve(listener, routes).with_graceful_shutdown(stop.cancelled_owned());
        Ok((address, tokio::spawn(server.into_future())))
    }
}

async fn answer(State(registration): State<Arc<Registration>>, Json(new): Json<NewUser>) -> impl IntoResponse {
    match registration.register(new).await {
        Ok(registered) => (StatusCode::CREATED, Json(registered)).into_response(),
        Err(error) => {
            tracing::error!(name: "user_not_registered", %error, "a user could not be registered");
            StatusCode::SERVICE_UNAVAILABLE.into_response()
        }
    }
}

fn welcome(id: i64, new: NewUser) -> EmailTriggerCommand<'static> {
    EmailTriggerCommand {
        recipient_email: new.email.into(),
        template_id: "welcome".into(),
        template_context: serde_json::json!({"name": new.name}),
        locale: new.locale.into(),
        correlation_id: format!("registration-{id}").into(),
        user_id: Some(id),
    }
}
