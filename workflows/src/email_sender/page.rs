//! A page of claimed e-mails on its way: at most eight conversations, and a mark for each e-mail behind it.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use futures::future::join_all;
use lockgate::telemetry::mails::{self, MailTold};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::conversation::{Conversation, Outcome};
use super::mails::{Claimed, Fate};
use super::smtp::{Sender, backoff};

/// E-mails on their way at once, each on a connection of its own.
const AT_ONCE: usize = 8;
/// First and longest pause before a mark is tried again.
const MARK_PAUSES: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(1));

/// The page.
pub(super) struct Page<'a> {
    sender: &'a Sender,
    claim: Uuid,
    asked: Instant,
    waiting: Mutex<VecDeque<Claimed>>,
    /// Nothing more of it is offered.
    over: CancellationToken,
    found: Mutex<Found>,
}

/// What the conversations met.
#[derive(Default)]
pub(super) struct Found {
    /// Why the server takes nothing.
    pub(super) barred: Option<String>,
    /// Why marks could not be written.
    pub(super) unmarked: Option<sqlx::Error>,
}

impl<'a> Page<'a> {
    pub(super) fn new(
        sender: &'a Sender,
        claim: Uuid,
        asked: Instant,
        claimed: Vec<Claimed>,
        stop: &CancellationToken,
    ) -> Self {
        Self {
            sender,
            claim,
            asked,
            waiting: Mutex::new(claimed.into()),
            over: stop.child_token(),
            found: Mutex::default(),
        }
    }

    /// Offers as many as may be, marks each, and gives back the others. A first conversation comes before all e-mails:
    /// a server that does not let us in is none of theirs.
    pub(super) async fn send(self) -> (Vec<Claimed>, Found) {
        if let Some(first) = self.connect().await {
            let more = AT_ONCE.min(lock(&self.waiting).len()).saturating_sub(1);
            let conversations = std::iter::once(Some(first)).chain(std::iter::repeat_with(|| None).take(more));
            join_all(conversations.map(|begun| self.converse(begun))).await;
        }
        let left: Vec<Claimed> = std::mem::take(&mut *lock(&self.waiting)).into();
        let found = std::mem::take(&mut *lock(&self.found));
        // Of eight connections some may be too many for the server, and nothing waits for it.
        if found.barred.is_some() && !left.is_empty() {
            mails::barred();
        }
        (left, found)
    }

    /// One e-mail after the other, on a new connection when the last one is gone.
    async fn converse(&self, mut begun: Option<Conversation>) {
        while !lock(&self.waiting).is_empty() {
            let connected = match begun.take() {
                Some(conversation) => Some(conversation),
                None => self.connect().await,
            };
            let Some(mut conversation) = connected else { return };
            while !conversation.is_over() {
                let Some(email) = self.next() else {
                    return conversation.end().await;
                };
                self.one(email, &mut conversation).await;
            }
        }
    }

    async fn connect(&self) -> Option<Conversation> {
        match self.over.run_until_cancelled(self.sender.server.connect()).await? {
            Ok(conversation) => Some(conversation),
            Err(why) => {
                lock(&self.found).barred = Some(why);
                None
            }
        }
    }

    /// The next one. With half a lease to begin it and a third to offer it, an e-mail is done before its lease is.
    fn next(&self) -> Option<Claimed> {
        if self.over.is_cancelled() || self.asked.elapsed() > self.sender.lease / 2 {
            return None;
        }
        lock(&self.waiting).pop_front()
    }

    /// Offers one e-mail and writes down what became of it.
    async fn one(&self, email: Claimed, conversation: &mut Conversation) {
        let told = MailTold::begin(email.message_id, email.traceparent.as_deref(), email.attempts);
        let outcome = match self.sender.message(&email) {
            Ok(message) => conversation.offer(&message).await,
            // The error's text quotes the address.
            Err(_) => Outcome::Failed("no message can be made of it".to_owned()),
        };
        fail::fail_point!("mail.after_send");
        told.end(outcome.name());
        let (state, error, pause) = match outcome {
            Outcome::Sent => ("sent", None, Duration::ZERO),
            Outcome::Failed(why) => ("failed", Some(why), Duration::ZERO),
            Outcome::PutOff(why) => ("queued", Some(why), backoff(email.attempts)),
            Outcome::Barred(why) => {
                self.over.cancel();
                lock(&self.found).barred = Some(why);
                return lock(&self.waiting).push_front(email);
            }
        };
        let fate = Fate { state, error, pause };
        self.mark(&email, fate).await;
    }

    /// Marks an e-mail, again and again while the claim lasts: one that was sent and is not marked goes twice. As long as
    /// marks are not known to be possible, no more of the page goes out.
    async fn mark(&self, email: &Claimed, fate: Fate) {
        let mut pause = MARK_PAUSES.0;
        let mut tries = 1;
        loop {
            let error = match self.sender.mails.settle(email.id, self.claim, fate.clone()).await {
                Ok(settled) => {
                    return match settled.as_deref() {
                        Some("failed") => {
                            let why = fate.error.unwrap_or_default();
                            tracing::error!(name: "mail_failed", message_id = %email.message_id, why, "an e-mail has failed for good");
                        }
                        // An earlier mark whose answer was lost has ended the claim.
                        None if tries == 1 => tracing::warn!(
                            name: "mail_taken_over", message_id = %email.message_id,
                            "an e-mail was taken over before it was marked; it may go twice"
                        ),
                        _ => {}
                    };
                }
                Err(error) => error,
            };
            self.over.cancel();
            if tries == 1 {
                tracing::warn!(name: "mail_not_marked", message_id = %email.message_id, %error, "an e-mail cannot be marked at the moment");
            }
            if self.asked.elapsed() + pause >= self.sender.lease {
                tracing::warn!(name: "mail_not_marked", message_id = %email.message_id, %error, "an e-mail was not marked; it may go twice");
                lock(&self.found).unmarked = Some(error);
                return;
            }
            lock(&self.found).unmarked = Some(error);
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(MARK_PAUSES.1);
            tries += 1;
        }
    }
}

fn lock<T>(held: &Mutex<T>) -> MutexGuard<'_, T> {
    held.lock().unwrap_or_else(PoisonError::into_inner)
}
