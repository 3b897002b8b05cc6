//! What this replica knows of queues: which it serves beside those of its workflows, and for which of them something is set.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{PoisonError, RwLock};
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};

use super::executor::Shared;
use crate::lifecycle::{QueueNews, QueueRule};

/// How often it is read again, when nobody says that something changed.
const EVERY: TimeDelta = TimeDelta::seconds(5);
/// The same where somebody would say so.
const EVERY_IF_RUNG: TimeDelta = TimeDelta::seconds(20);
/// A name in which nothing waits is served for so long after something did: its runs sleep, or are claimed.
const REMEMBERED: TimeDelta = TimeDelta::minutes(10);

/// The queues as they were read last.
#[derive(Debug, Default)]
pub(crate) struct QueueBook {
    known: RwLock<Known>,
    /// A look was made in vain since it was read: what waits may be in a queue that is not known yet.
    rung: AtomicBool,
}

#[derive(Debug, Default)]
struct Known {
    read_at: Option<DateTime<Utc>>,
    rules: HashMap<String, QueueRule>,
    named: BTreeMap<String, DateTime<Utc>>,
}

impl QueueBook {
    fn known(&self) -> std::sync::RwLockReadGuard<'_, Known> {
        self.known.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is set for queues is known.
    pub(crate) fn is_read(&self) -> bool {
        self.known().read_at.is_some()
    }

    /// Runs of this queue are claimed, and started at once, without a look at any limit.
    pub(crate) fn is_open(&self, queue: &str) -> bool {
        !self.known().rules.get(queue).is_some_and(|rule| rule.limited)
    }

    /// How long code of this queue may run from its claim.
    pub(crate) fn max_attempt(&self, queue: &str) -> Option<Duration> {
        let known = self.known();
        // Most replicas know of no rule at all.
        if known.rules.is_empty() {
            return None;
        }
        known.rules.get(queue)?.max_attempt
    }

    /// The names to claim from: those of the workflows, and those in which runs of them wait.
    pub(crate) fn served(&self, workflows: Vec<String>) -> Vec<String> {
        let known = self.known();
        if known.named.is_empty() {
            return workflows;
        }
        let names: BTreeSet<String> = workflows.into_iter().chain(known.named.keys().cloned()).collect();
        names.into_iter().collect()
    }

    /// Somebody hinted at something to do: it may be in a queue that is not known.
    pub(crate) fn ring(&self) {
        self.rung.store(true, Ordering::Relaxed);
    }

    /// Whether it is to be read again soon for that.
    pub(crate) fn is_rung(&self) -> bool {
        self.rung.load(Ordering::Relaxed)
    }

    fn learn(&self, news: QueueNews, now: DateTime<Utc>) {
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        known.read_at = Some(now);
        known.rules = news.rules.into_iter().map(|rule| (rule.name.clone(), rule)).collect();
        known.named.extend(news.named.into_iter().map(|name| (name, now)));
        known.named.retain(|_, seen| now - *seen < REMEMBERED);
    }

    /// Whether what is known is old: soon when somebody started something.
    fn is_stale(&self, now: DateTime<Utc>, poll: Duration, listening: bool) -> bool {
        let soon = TimeDelta::from_std(poll).unwrap_or(EVERY).min(EVERY);
        let every = if listening { EVERY_IF_RUNG } else { EVERY };
        match self.known().read_at {
            None => true,
            Some(read_at) => {
                let age = now - read_at;
                age >= every || (age >= soon && self.is_rung())
            }
        }
    }
}

/// Reads the queues before a look, when somebody changed what is set for them or nothing is known yet. What cannot be read
/// stays as it was known; answers whether they were ever read: nothing may be claimed before that, since any queue may have
/// limits.
pub(super) async fn refresh_changed(shared: &Shared) -> bool {
    let changed = shared.hints.queues.swap(false, Ordering::Relaxed);
    if changed || !shared.queues.is_read() {
        read(shared, changed).await;
    }
    shared.queues.is_read()
}

/// Reads them again after a look, when what is known is old: what that look found need not wait for it.
pub(super) async fn refresh_old(shared: &Shared) {
    let listening = shared.hints.listening.load(Ordering::Relaxed);
    if shared
        .queues
        .is_stale(shared.clock.now(), shared.settings.poll, listening)
    {
        read(shared, false).await;
    }
}

async fn read(shared: &Shared, changed: bool) {
    shared.queues.rung.store(false, Ordering::Relaxed);
    match shared.runs.read_queues(&shared.workflows()).await {
        Ok(news) => shared.queues.learn(news, shared.clock.now()),
        Err(error) => {
            if changed {
                shared.hints.queues.store(true, Ordering::Relaxed);
            }
            tracing::warn!(name: "queues_not_read", %error, "could not read the queues");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(name: &str, limited: bool) -> QueueRule {
        QueueRule {
            name: name.to_owned(),
            limited,
            max_attempt: limited.then_some(Duration::from_secs(5)),
        }
    }

    fn news(rules: &[(&str, bool)], named: &[&str]) -> QueueNews {
        QueueNews {
            rules: rules.iter().map(|(name, limited)| rule(name, *limited)).collect(),
            named: named.iter().map(|name| (*name).to_owned()).collect(),
        }
    }

    #[test]
    fn a_name_is_served_for_a_while_after_nothing_waits_in_it() {
        let (book, start) = (QueueBook::default(), DateTime::UNIX_EPOCH);
        let own = || vec!["orders".to_owned()];
        assert_eq!(book.served(own()), own());
        book.learn(news(&[], &["bulk", "orders"]), start);
        assert_eq!(book.served(own()), ["bulk", "orders"]);
        book.learn(news(&[], &[]), start + TimeDelta::minutes(9));
        assert_eq!(book.served(own()), ["bulk", "orders"]);
        book.learn(news(&[], &[]), start + TimeDelta::minutes(10));
        assert_eq!(book.served(own()), own());
    }

    #[test]
    fn what_is_set_counts_until_it_is_read_otherwise() {
        let book = QueueBook::default();
        assert!(book.is_open("a") && book.max_attempt("a").is_none());
        book.learn(news(&[("a", true), ("b", false)], &[]), DateTime::UNIX_EPOCH);
        assert!(!book.is_open("a") && book.is_open("b") && book.is_open("c"));
        assert_eq!(book.max_attempt("a"), Some(Duration::from_secs(5)));
        book.learn(news(&[], &[]), DateTime::UNIX_EPOCH);
        assert!(book.is_open("a"));
    }

    #[test]
    fn it_is_read_soon_when_rung_and_else_every_five_seconds_or_more_rarely_where_somebody_would_ring() {
        let (book, start) = (QueueBook::default(), DateTime::UNIX_EPOCH);
        let stale = |after: i64, listening: bool| {
            book.is_stale(
                start + TimeDelta::milliseconds(after),
                Duration::from_secs(1),
                listening,
            )
        };
        assert!(stale(0, false) && stale(0, true));
        book.learn(QueueNews::default(), start);
        assert!(!stale(0, false) && !stale(0, true));
        book.ring();
        assert!(!stale(900, false) && !stale(900, true));
        assert!(stale(1_000, false) && stale(1_000, true));
        book.rung.store(false, Ordering::Relaxed);
        assert!(!stale(4_900, false) && stale(5_000, false));
        assert!(!stale(19_900, true) && stale(20_000, true));
    }
}
