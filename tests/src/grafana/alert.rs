//! What an alert rule is, for either of the two sources.

/// How bad it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Severity {
    /// Somebody is needed now.
    Critical,
    /// Somebody is needed today.
    Warning,
    /// Somebody should know.
    Info,
}

impl Severity {
    /// As the label has it.
    #[must_use]
    pub const fn text(self) -> &'static str {
        match self {
            Self::Critical => "critical",
            Self::Warning => "warning",
            Self::Info => "info",
        }
    }
}

/// How a value is compared with the threshold.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Fires {
    /// When the value is greater.
    Above(f64),
    /// When the value is smaller.
    Below(f64),
}

impl Fires {
    /// In PromQL.
    #[must_use]
    pub fn text(self) -> String {
        match self {
            Self::Above(threshold) => format!("> {threshold}"),
            Self::Below(threshold) => format!("< {threshold}"),
        }
    }

    /// Does this value make it fire?
    #[must_use]
    pub fn by(self, value: f64) -> bool {
        match self {
            Self::Above(threshold) => value > threshold,
            Self::Below(threshold) => value < threshold,
        }
    }
}

/// Series for `promtool test rules`, by the metric's short form.
pub type Series = &'static [(&'static str, &'static str)];

/// One rule, from both sources where both know.
#[derive(Clone, Copy)]
pub struct Alert {
    /// Its name; in lower case the anchor of its row in the runbook.
    pub name: &'static str,
    /// How bad it is.
    pub severity: Severity,
    /// For how long it must hold.
    pub lasts: &'static str,
    /// What is compared, in PromQL with short forms.
    pub expr: &'static str,
    /// The comparison, the same for both sources.
    pub fires: Fires,
    /// The metric whose absence is as bad, of each installation that was heard of within a day.
    pub or_absent: Option<&'static str>,
    /// What is compared, in SQL: one row, one column `value`; nothing where the views do not know.
    pub sql: Option<&'static str>,
    /// What it says, in a few words.
    pub summary: &'static str,
    /// What it means for the work.
    pub meaning: &'static str,
    /// The first thing to ask, as the reader.
    pub query: &'static str,
    /// What to do then.
    pub action: &'static str,
    /// Series with which it fires, and the labels it then has of its own.
    pub bad: (Series, &'static [(&'static str, &'static str)]),
    /// Series with which it does not.
    pub good: Series,
}

/// Where the runbook is to be read; whoever has it elsewhere writes the rules with `lockgate-grafana --runbook URL`.
pub const RUNBOOK: &str = "https://lockgate.example/ops/runbook.md";

impl Alert {
    /// The anchor of its row.
    #[must_use]
    pub fn anchor(&self) -> String {
        self.name.to_lowercase()
    }
}
