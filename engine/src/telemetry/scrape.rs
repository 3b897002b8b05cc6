//! All metrics as text, for whoever scrapes them.

use std::sync::OnceLock;
use std::time::Duration;

use prometheus::{Registry, TextEncoder};
use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;
use tokio::time::timeout;

/// The media type of the text.
pub(crate) const MEDIA_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";
/// How long a scrape waits for one that is under way.
const PATIENCE: Duration = Duration::from_secs(1);

static REGISTRY: OnceLock<Registry> = OnceLock::new();

/// What is scraped from now on.
pub(super) fn tell(registry: Registry) {
    let _ = REGISTRY.set(registry);
}

/// All metrics. `None`: nothing is scraped here, or too many scrape at once.
pub(crate) async fn text() -> Option<String> {
    static ONE: Semaphore = Semaphore::const_new(1);
    let registry = REGISTRY.get()?;
    let _one = timeout(PATIENCE, ONE.acquire()).await.ok()?.ok()?;
    let gather = spawn_blocking(|| TextEncoder::new().encode_to_string(&registry.gather()));
    gather.await.ok()?.ok()
}
