//! How a command ends: its exit code, and what its error says.

use std::fmt;
use std::process::ExitCode;

use crate::config::ConfigError;
use crate::postgres::{DatabaseError, SchemaError};

/// The exit codes. Scripts rely on them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// Done.
    Ok = 0,
    /// The operation failed.
    Failed = 1,
    /// The command or the configuration is wrong.
    Usage = 2,
    /// What was named is not there.
    NotFound = 3,
    /// The state does not allow it: a key is taken, a run is over, the schema does not fit.
    Conflict = 4,
    /// Postgres or Kafka cannot be reached or does not let us in.
    Unreachable = 5,
    /// A check found problems.
    Problems = 6,
    /// Interrupted.
    Interrupted = 130,
}

/// The codes as `--help` lists them.
pub(super) const EXIT_CODES: &str = "Exit codes:
  0    done
  1    the operation failed
  2    the command or the configuration is wrong
  3    what was named is not there
  4    the state does not allow it: a key is taken, a run is over, the schema does not fit
  5    Postgres or Kafka cannot be reached or does not let us in
  6    a check found problems
  130  interrupted";

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// Whether a failed command changed anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Changed {
    /// It did not.
    Nothing,
    /// The answer was lost.
    Unknown,
    /// The text says it, or it does not matter.
    Said,
}

/// Why a command failed: what failed, whether anything was changed, what to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// How the process ends.
    pub exit: Exit,
    /// What failed.
    pub what: String,
    /// Whether anything was changed.
    pub changed: Changed,
    /// What to do.
    pub hint: Option<String>,
}

/// What a command answers.
pub type Outcome = Result<Exit, Failure>;

impl Failure {
    /// A failure that changed nothing.
    pub fn new(exit: Exit, what: impl Into<String>) -> Self {
        Self {
            exit,
            what: what.into(),
            changed: Changed::Nothing,
            hint: None,
        }
    }

    /// Says what to do.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Says whether anything was changed.
    #[must_use]
    pub fn changed(mut self, changed: Changed) -> Self {
        self.changed = changed;
        self
    }

    /// There is no such run.
    #[must_use]
    pub fn unknown_run(run: uuid::Uuid) -> Self {
        Self::new(Exit::NotFound, format!("there is no run {run}"))
            .hint("see `runs list`; finished runs are pruned after retention.runs")
    }

    /// Retention has begun to delete the run: of what is left nothing can be proved.
    #[must_use]
    pub fn run_in_pruning(run: uuid::Uuid, since: chrono::DateTime<chrono::Utc>) -> Self {
        let since = since.format("%Y-%m-%d %H:%M:%SZ");
        Self::new(
            Exit::NotFound,
            format!("retention has been deleting run {run} since {since}"),
        )
        .hint("of what is left nothing can be proved; retention.runs says how long runs are kept")
    }

    /// A write whose answer may have been lost; a refusal changed nothing.
    #[must_use]
    pub fn of_write(error: DatabaseError) -> Self {
        let lost = error.is_unanswered();
        let failure = Self::from(error);
        if lost {
            failure.changed(Changed::Unknown)
        } else {
            failure
        }
    }

    /// A write that is done page by page, of which so much was done before.
    #[must_use]
    pub fn after_pages(error: DatabaseError, done: impl fmt::Display, count: u64) -> Self {
        let before = error.done_before(done);
        let failure = Self::of_write(error);
        if count == 0 {
            return failure;
        }
        let hint = failure
            .hint
            .unwrap_or_else(|| "the same command finds what is left".to_owned());
        // What the server says of its page is not so of all.
        let why = failure.what.replace("; nothing was changed", "");
        Self::new(failure.exit, format!("{why}; {before}"))
            .changed(Changed::Said)
            .hint(hint)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let changed = match self.changed {
            Changed::Nothing => "; nothing was changed",
            Changed::Unknown => "; whether anything was changed is not known",
            Changed::Said => "",
        };
        write!(f, "error: {}{changed}", self.what)?;
        match &self.hint {
            Some(hint) => write!(f, "\nhint: {hint}"),
            None => Ok(()),
        }
    }
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        Self::new(Exit::Usage, error.to_string())
            .hint("`config show --origin` lists every key, its value and where it came from")
    }
}

impl From<SchemaError> for Failure {
    fn from(error: SchemaError) -> Self {
        match error {
            SchemaError::TooOld { found, needed } => Self::new(
                Exit::Conflict,
                match found {
                    0 => "the database has no lockgate schema".to_owned(),
                    found => format!("the schema is at version {found}, this binary needs {needed}"),
                },
            )
            .hint("run `migrate up`"),
            SchemaError::TooNew { min_writer, known } => Self::new(
                Exit::Conflict,
                format!("the schema takes writers of version {min_writer} or newer, this binary knows {known}"),
            )
            .hint("use a newer binary"),
            SchemaError::Database(error) => error.into(),
        }
    }
}

impl From<DatabaseError> for Failure {
    fn from(error: DatabaseError) -> Self {
        let (exit, hint) = judge(&error);
        let what = match exit {
            Exit::Unreachable => format!("Postgres cannot be used: {error}"),
            _ => error.to_string(),
        };
        let failure = Self::new(exit, what);
        if hint.is_empty() { failure } else { failure.hint(hint) }
    }
}

fn judge(error: &DatabaseError) -> (Exit, &'static str) {
    let code = match error {
        DatabaseError::BadUrl(_) => return (Exit::Usage, "expected postgres://user@host:port/database"),
        DatabaseError::Unanswered(_) | DatabaseError::TooSlow(_) => {
            return (
                Exit::Unreachable,
                "check that the server runs and that DATABASE_URL names it; `doctor` says more",
            );
        }
        DatabaseError::Refused { code, .. } => code.as_str(),
    };
    match code {
        "28P01" | "28000" => (
            Exit::Unreachable,
            "check user and password in DATABASE_URL, and pg_hba.conf on the server",
        ),
        "3D000" => (
            Exit::Unreachable,
            "create the database, or name another one in DATABASE_URL",
        ),
        "08P01" => (
            Exit::Unreachable,
            "a pooler may stand before the server: set database.pooler_mode = true, or let it ignore startup parameters",
        ),
        "53300" => (
            Exit::Unreachable,
            "the server has no free connection: lower database.max_connections or raise its limit",
        ),
        "57P01" | "57P02" | "57P03" => (Exit::Unreachable, "the server is starting or stopping: try again"),
        "42P01" | "3F000" => (
            Exit::Conflict,
            "the schema is missing or older than this binary: run `migrate up`",
        ),
        "25006" => (
            Exit::Failed,
            "the server is read-only, perhaps a standby: name the primary in DATABASE_URL",
        ),
        "42501" => (
            Exit::Failed,
            "the role lacks a privilege: `migrate roles` makes roles, `doctor` names what is missing",
        ),
        "53100" => (Exit::Failed, "the server's disk is full: make room, then try again"),
        "55P03" | "40001" | "40P01" => (Exit::Failed, "somebody else was faster: try again"),
        "57014" => (
            Exit::Failed,
            "the server's statement_timeout ended it: try again or raise it for this role",
        ),
        _ => (Exit::Failed, ""),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_page_that_failed_it_is_said_what_was_done_before() {
        let refused = DatabaseError::Refused {
            code: "57014".to_owned(),
            message: "canceling statement".to_owned(),
        };
        let said = |error: &DatabaseError, count: u64| {
            let done = format_args!("{count} messages were discarded");
            Failure::after_pages(error.clone(), done, count).to_string()
        };
        let begun = said(&refused, 2_000);
        assert!(begun.contains("; 2000 messages were discarded before\n"), "{begun}");
        assert!(!begun.contains("nothing was changed"), "{begun}");
        assert!(said(&refused, 0).contains("; nothing was changed\n"));
        let lost = DatabaseError::Unanswered("gone".to_owned());
        let lost = said(&lost, 1_000);
        assert!(
            lost.contains("; 1000 messages were discarded before, and perhaps a page more\n"),
            "{lost}"
        );
    }
}
