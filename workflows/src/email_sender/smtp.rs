//! Sending what is queued. Between the server's answer and our mark lies the one gap that nothing closes: whoever dies
//! there sends the e-mail again, under the same Message-ID.

use std::time::{Duration, Instant};

use anyhow::Context as _;
use lettre::Message;
use lettre::message::Mailbox;
use lettre::message::header::ContentType;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::conversation::MailServer;
use super::mails::{Claimed, Mails};
use super::page::Page;

/// E-mails claimed at once.
const PAGE: i64 = 100;
/// How often is looked for due ones when there was nothing to do.
const POLL: Duration = Duration::from_millis(500);
/// First and longest pause of an e-mail that the server put off, and of all when it takes nothing.
const PAUSES: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(3600));
/// How often old e-mails are deleted, and how many at once.
const PRUNE: (Duration, i64) = (Duration::from_secs(60), 1_000);

/// How e-mails are sent.
pub struct Sender {
    pub(super) mails: Mails,
    pub(super) server: MailServer,
    from: Mailbox,
    pub(super) lease: Duration,
}

impl Sender {
    /// A sender to the server of this URL, such as `smtp://user:password@mail.example.org:587?tls=required`.
    ///
    /// # Errors
    /// The URL or the sender's address cannot be used; neither is quoted.
    pub fn new(mails: Mails, url: &str, from: &str, lease: Duration) -> anyhow::Result<Self> {
        // With half a lease to begin it, an e-mail is done before its lease is.
        let server = MailServer::read(url, lease / 3)
            .context("EMAIL_SMTP_URL is not a URL such as smtp://host:25 or smtps://user:password@host")?;
        let from = from
            .parse()
            .context("EMAIL_FROM is not an address such as Tracker <tracker@example.org>")?;
        Ok(Self {
            mails,
            server,
            from,
            lease,
        })
    }

    /// Sends until told to stop; what is on its way then is still settled, the rest of the page handed back.
    pub async fn run(&self, stop: CancellationToken) {
        let mut barred = 0;
        let mut said = String::new();
        while !stop.is_cancelled() {
            let (pause, trouble) = match self.page(&stop).await {
                Ok((0, _)) => (POLL, None),
                Ok((_, None)) => {
                    barred = 0;
                    (Duration::ZERO, None)
                }
                Ok((_, Some(why))) => {
                    barred += 1;
                    (backoff(barred).min(self.lease), Some(why))
                }
                Err(error) => {
                    let why = format!("e-mails cannot be claimed or marked at the moment: {error}");
                    (POLL, Some(why))
                }
            };
            match trouble {
                None => said.clear(),
                Some(text) if text != said => {
                    tracing::warn!(name: "mail_server_bars", reason = text, "no e-mails are sent at the moment");
                    said = text;
                }
                // Said again when it is another one.
                Some(_) => {}
            }
            tokio::select! {
                () = stop.cancelled() => {}
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    /// One page; answers how many e-mails it had, and why the server took none of them or no more of them.
    async fn page(&self, stop: &CancellationToken) -> Result<(usize, Option<String>), sqlx::Error> {
        self.mails.recover().await?;
        let (claim, asked) = (Uuid::now_v7(), Instant::now());
        let claimed = self.mails.claim(claim, self.lease, PAGE).await?;
        let count = claimed.len();
        if count == 0 {
            return Ok((0, None));
        }
        fail::fail_point!("mail.after_claim");
        let (left, found) = Page::new(self, claim, asked, claimed, stop).send().await;
        if !left.is_empty() {
            let ids = left.iter().map(|email| email.id).collect();
            self.mails.release(ids, claim, found.barred.clone()).await?;
        }
        tracing::debug!(emails = count, left = left.len(), "page of e-mails settled");
        match found.unmarked {
            Some(error) => Err(error),
            // With some that were not offered for it.
            None => Ok((count, found.barred.filter(|_| !left.is_empty()))),
        }
    }

    pub(super) fn message(&self, email: &Claimed) -> anyhow::Result<Message> {
        let domain = self.from.email.domain();
        let message = Message::builder()
            .message_id(Some(format!("<{}@{domain}>", email.message_id)))
            .from(self.from.clone())
            .to(Mailbox::new(None, email.recipient.parse()?))
            .subject(email.subject.clone())
            .header(ContentType::TEXT_PLAIN)
            .body(email.body.clone())?;
        Ok(message)
    }

    /// Deletes old e-mails page by page until told to stop.
    pub async fn prune(mails: Mails, keep: Duration, stop: CancellationToken) {
        let mut passes = tokio::time::interval(PRUNE.0);
        while stop.run_until_cancelled(passes.tick()).await.is_some() {
            loop {
                match mails.prune(keep, PRUNE.1).await {
                    Ok(1..) if !stop.is_cancelled() => {}
                    Ok(_) => break,
                    Err(error) => {
                        tracing::warn!(name: "mails_not_pruned", %error, "old e-mails are not deleted at the moment");
                        break;
                    }
                }
            }
        }
    }
}

pub(super) fn backoff(attempts: i32) -> Duration {
    let doubled = PAUSES.0 * 2u32.saturating_pow(attempts.clamp(0, 16).unsigned_abs());
    doubled.min(PAUSES.1).mul_f64(rand::random_range(0.5..1.0))
}
