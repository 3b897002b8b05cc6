//! Pages of undelivered messages in flight: how many, of which topics, and whether one more may go.

use std::collections::HashMap;
use std::sync::Arc;

use tokio::task::{JoinError, JoinSet};

use super::page::{Page, redeliver};
use super::redelivery::Service;

/// Pages in flight.
#[derive(Default)]
pub(super) struct Flights {
    pages: JoinSet<(Arc<str>, bool)>,
    by_topic: HashMap<Arc<str>, usize>,
}

impl Flights {
    pub(super) fn count(&self) -> usize {
        self.pages.len()
    }

    /// Whether one more page of the topic fits, and another topic's after it.
    pub(super) fn has_room(&self, topic: &str, pages: usize) -> bool {
        let own = self.by_topic.get(topic).copied().unwrap_or(0);
        self.count() < pages && (own == 0 || self.count() + 1 < pages)
    }

    pub(super) fn launch(&mut self, service: Arc<Service>, page: Page) {
        *self.by_topic.entry(page.topic.clone()).or_default() += 1;
        self.pages.spawn(async move {
            let (topic, full) = (page.topic.clone(), page.full);
            redeliver(&service, page).await;
            (topic, full)
        });
    }

    /// Waits until a page has landed, for ever when none flies; answers whether it was full.
    pub(super) async fn landed(&mut self) -> bool {
        match self.pages.join_next().await {
            Some(landed) => self.note(landed),
            None => std::future::pending().await,
        }
    }

    pub(super) fn clear_landed(&mut self) {
        while let Some(landed) = self.pages.try_join_next() {
            self.note(landed);
        }
    }

    pub(super) async fn all_landed(&mut self) {
        while let Some(landed) = self.pages.join_next().await {
            self.note(landed);
        }
    }

    fn note(&mut self, landed: Result<(Arc<str>, bool), JoinError>) -> bool {
        match landed {
            Ok((topic, full)) => {
                if let Some(own) = self.by_topic.get_mut(&topic) {
                    *own -= 1;
                }
                full
            }
            Err(error) => {
                // Its rows are recovered; which topic it was is not known, so the counts start anew when all landed.
                tracing::error!(name: "redelivery_broken", %error, "a page of undelivered messages broke off; its lease ends by itself");
                if self.pages.is_empty() {
                    self.by_topic.clear();
                }
                false
            }
        }
    }
}
