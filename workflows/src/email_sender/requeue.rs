//! `email-sender requeue`: what has failed for a reason that is gone is tried again.

use super::mails::Mails;

/// Queues failed e-mails again, with their attempts anew
#[derive(clap::Args)]
pub struct Requeue {
    /// Only those that failed with exactly this, as --dry-run lists it
    #[arg(long, value_name = "TEXT")]
    pub error: Option<String>,
    /// All that have failed, whatever they met
    #[arg(long, conflicts_with = "error")]
    pub all: bool,
    /// Why, for the record
    #[arg(long, required_unless_present = "dry_run")]
    pub reason: Option<String>,
    /// Only count
    #[arg(long)]
    pub dry_run: bool,
}

impl Requeue {
    /// Counts them, queues them unless that was all, and answers what is to be said.
    ///
    /// # Errors
    /// None are named or no reason is given, or the database refused or did not answer.
    pub async fn execute(&self, mails: &Mails) -> anyhow::Result<String> {
        let reason = self.reason.as_deref().map(str::trim).unwrap_or_default();
        if !self.dry_run {
            anyhow::ensure!(!reason.is_empty(), "the reason is empty; say why, for the record");
            let named = self.all || self.error.is_some();
            anyhow::ensure!(
                named,
                "no e-mails are named; give --error or --all; --dry-run only counts"
            );
        }
        let error = self.error.as_deref();
        let found = mails.failed(error).await?;
        let mut said: String = found
            .iter()
            .map(|(error, count)| format!("{count} failed: {error}\n"))
            .collect();
        let queued = match self.dry_run {
            true => 0,
            false => mails.requeue(error, reason).await?,
        };
        said += &format!("{queued} queued again\n");
        Ok(said)
    }
}
