//! Sending what is queued. Between the server's answer and our mark lies the one gap that nothing closes: whoever dies
//! there sends the e-mail again, under the same Message-ID.

use std::time::{Duration, Instant};

use anyhow::Context as _;
use futures::StreamExt;
use lettre::message::Mailbox;
use lettre::message::header::ContentType;
use lettre::transport::smtp;
use lettre::{AsyncSmtpTransport, AsyncTransport, Message, Tokio1Executor};
use sqlx::PgPool;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// E-mails claimed at once.
const PAGE: i64 = 100;
/// E-mails on their way at once, each on a connection of its own.
const AT_ONCE: usize = 8;
/// How often is looked for due ones when there was nothing to do.
const POLL: Duration = Duration::from_millis(500);
/// First and longest pause of an e-mail that the server put off, and of all when it cannot be reached.
const PAUSES: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(600));
/// Answers of "later" after which an e-mail has failed.
const MOST_ATTEMPTS: i32 = 20;
/// How often old e-mails are deleted, and how many at once.
const PRUNE: (Duration, i64) = (Duration::from_secs(60), 1_000);

/// How e-mails are sent.
pub struct Sender {
    pool: PgPool,
    transport: AsyncSmtpTransport<Tokio1Executor>,
    from: Mailbox,
    lease: Duration,
}

/// A claimed e-mail.
#[derive(sqlx::FromRow)]
struct Claimed {
    id: i64,
    message_id: Uuid,
    recipient: String,
    subject: String,
    body: String,
    attempts: i32,
}

/// What became of an e-mail; the texts are for its row.
#[derive(Debug, PartialEq, Eq)]
enum Outcome {
    Sent,
    /// The server said that it will never take it.
    Failed(String),
    /// The server said: not now.
    PutOff(String),
    /// The server was not reached, or it is not known what it said.
    Unanswered(String),
}

impl Sender {
    /// A sender to the server of this URL, such as `smtp://user:password@mail.example.org:587?tls=required`.
    ///
    /// # Errors
    /// The URL or the sender's address cannot be used; neither is quoted.
    pub fn new(pool: PgPool, url: &str, from: &str, lease: Duration) -> anyhow::Result<Self> {
        let transport = AsyncSmtpTransport::<Tokio1Executor>::from_url(url)
            .map_err(|_| {
                anyhow::anyhow!("EMAIL_SMTP_URL is not a URL such as smtp://host:25 or smtps://user:password@host")
            })?
            // With half a lease to begin it, an e-mail is done before its lease is.
            .timeout(Some(lease / 3))
            .build();
        let from = from
            .parse()
            .context("EMAIL_FROM is not an address such as Tracker <tracker@example.org>")?;
        Ok(Self {
            pool,
            transport,
            from,
            lease,
        })
    }

    /// Sends until told to stop; what is on its way then is still settled, the rest of the page handed back.
    pub async fn run(&self, stop: CancellationToken) {
        let mut unreached = 0;
        let mut said = String::new();
        while !stop.is_cancelled() {
            let page = self.page(&stop).await;
            if page.is_ok() {
                said.clear();
            }
            let pause = match page {
                Ok((0, _)) => POLL,
                Ok((_, reached)) => {
                    unreached = if reached { 0 } else { unreached + 1 };
                    if reached {
                        Duration::ZERO
                    } else {
                        backoff(unreached).min(self.lease)
                    }
                }
                Err(error) => {
                    // Said again when it is another one.
                    let text = error.to_string();
                    if text != said {
                        tracing::warn!(error = text, "e-mails cannot be claimed or settled at the moment");
                        said = text;
                    }
                    POLL
                }
            };
            tokio::select! {
                () = stop.cancelled() => {}
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    /// One page; answers how many e-mails it had and whether the server was reached.
    async fn page(&self, stop: &CancellationToken) -> Result<(usize, bool), sqlx::Error> {
        sqlx::query(include_str!("../../sql/mail/recover_mails.sql"))
            .execute(&self.pool)
            .await?;
        let (claim, asked) = (Uuid::now_v7(), Instant::now());
        let claimed: Vec<Claimed> = sqlx::query_as(include_str!("../../sql/mail/claim_mails.sql"))
            .bind(claim)
            .bind(self.lease.as_secs_f64())
            .bind(PAGE)
            .fetch_all(&self.pool)
            .await?;
        let count = claimed.len();
        fail::fail_point!("mail.after_claim");
        let sends = claimed.into_iter().map(|email| self.one(email, claim, asked, stop));
        let settled: Vec<Result<bool, sqlx::Error>> =
            futures::stream::iter(sends).buffer_unordered(AT_ONCE).collect().await;
        let mut reached = false;
        for one in settled {
            reached |= one?;
        }
        if count > 0 {
            tracing::debug!(emails = count, reached, "page of e-mails settled");
        }
        Ok((count, reached))
    }

    /// Sends one e-mail and writes down what became of it; answers whether the server was reached.
    async fn one(
        &self,
        email: Claimed,
        claim: Uuid,
        asked: Instant,
        stop: &CancellationToken,
    ) -> Result<bool, sqlx::Error> {
        let outcome = if stop.is_cancelled() || asked.elapsed() > self.lease / 2 {
            Outcome::Unanswered("handed back before it was sent".to_owned())
        } else {
            self.send(&email).await
        };
        fail::fail_point!("mail.after_send");
        let (state, attempts, error, pause) = match &outcome {
            Outcome::Sent => ("sent", 1, None, Duration::ZERO),
            Outcome::PutOff(why) if email.attempts + 1 < MOST_ATTEMPTS => {
                ("queued", 1, Some(why), backoff(email.attempts))
            }
            Outcome::PutOff(why) | Outcome::Failed(why) => ("failed", 1, Some(why), Duration::ZERO),
            Outcome::Unanswered(why) => ("queued", 0, Some(why), Duration::ZERO),
        };
        if let ("failed", Some(why)) = (state, error) {
            tracing::error!(message_id = %email.message_id, "an e-mail has failed: {why}");
        }
        let settled = sqlx::query(include_str!("../../sql/mail/settle_mail.sql"))
            .bind(email.id)
            .bind(claim)
            .bind(state)
            .bind(attempts)
            .bind(error)
            .bind(pause.as_secs_f64())
            .execute(&self.pool)
            .await?;
        if settled.rows_affected() == 0 {
            tracing::warn!(message_id = %email.message_id, "an e-mail was taken over before it was settled; it may go twice");
        }
        Ok(!matches!(outcome, Outcome::Unanswered(_)))
    }

    async fn send(&self, email: &Claimed) -> Outcome {
        let message = match self.message(email) {
            Ok(message) => message,
            // The error's text quotes the address.
            Err(_) => return Outcome::Failed("no message can be made of it".to_owned()),
        };
        match self.transport.send(message).await {
            Ok(_) => Outcome::Sent,
            Err(error) => judge(&error),
        }
    }

    fn message(&self, email: &Claimed) -> anyhow::Result<Message> {
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
    pub async fn prune(pool: PgPool, keep: Duration, stop: CancellationToken) {
        let mut passes = tokio::time::interval(PRUNE.0);
        while stop.run_until_cancelled(passes.tick()).await.is_some() {
            loop {
                let gone = sqlx::query(include_str!("../../sql/mail/prune_mails.sql"))
                    .bind(keep.as_secs_f64())
                    .bind(PRUNE.1)
                    .execute(&pool)
                    .await;
                match gone {
                    Ok(gone) if gone.rows_affected() > 0 && !stop.is_cancelled() => {}
                    Ok(_) => break,
                    Err(error) => {
                        tracing::warn!(%error, "old e-mails are not deleted at the moment");
                        break;
                    }
                }
            }
        }
    }
}

/// What an answer, or the want of one, means. The server's text may quote the address and stays out.
fn judge(error: &smtp::Error) -> Outcome {
    match error.status() {
        Some(code) if error.is_permanent() => Outcome::Failed(format!("the server answered {code}")),
        Some(code) => Outcome::PutOff(format!("the server answered {code}")),
        None if error.is_timeout() => Outcome::Unanswered("the server did not answer in time".to_owned()),
        None if error.is_tls() => Outcome::Unanswered("no TLS connection to the server".to_owned()),
        None => Outcome::Unanswered("the server was not reached".to_owned()),
    }
}

fn backoff(attempts: i32) -> Duration {
    let doubled = PAUSES.0 * 2u32.saturating_pow(attempts.clamp(0, 16).unsigned_abs());
    doubled.min(PAUSES.1).mul_f64(rand::random_range(0.5..1.0))
}
