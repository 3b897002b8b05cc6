//! The options of a schedule, and their check before anything is stored.

use std::time::Duration;

use clap::{Args, ValueEnum};
use serde::de::IgnoredAny;
use serde_json::Value;

use crate::cli::runs_list::parse_attribute;
use crate::cli::start::parse_name;
use crate::lifecycle::{HIGHEST_PRIORITY, misfit_attributes};
use crate::postgres::{ScheduleSpec, ScheduleView};
use crate::trigger::{Calendar, CatchUp, CatchUpRules, FoldRule, GapRule, Overlap, ScheduleRow};
use crate::workflow::Registry;

/// As the table's own checks say.
const MOST_MISSED: u32 = 1_000;
const LONGEST_JITTER: Duration = Duration::from_secs(24 * 3_600);

/// Which missed slots fire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum CatchUpArg {
    /// None of them
    Skip,
    /// The newest one
    Last,
    /// The newest `--catch-up-max`, oldest first
    All,
}

/// The rules of a schedule.
#[derive(Debug, Clone, Default, Args)]
pub struct RuleArgs {
    /// A fixed local time that the clocks skip: `run_after` the gap, or `skip` [default: run_after]
    #[arg(long)]
    pub dst_gap: Option<GapRule>,
    /// A fixed local time that comes twice: `first`, `second` or `both` [default: first]
    #[arg(long)]
    pub dst_fold: Option<FoldRule>,
    /// Slots missed while there was no leader [default: last]
    #[arg(long)]
    pub catch_up: Option<CatchUpArg>,
    /// Most missed slots fired at once under `--catch-up all` [default: 10]
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=i64::from(MOST_MISSED)))]
    pub catch_up_max: Option<u32>,
    /// Slots older than this never fire [default: 1day]
    #[arg(long, value_parser = humantime::parse_duration)]
    pub catch_up_window: Option<Duration>,
}

impl RuleArgs {
    /// The rules of the clocks; what is not given is as in the row, else the default.
    pub(super) fn clock_rules(&self, row: Option<&ScheduleRow>) -> Result<(GapRule, FoldRule), String> {
        let gap = row.map(|row| row.dst_gap.parse()).transpose();
        let fold = row.map(|row| row.dst_fold.parse()).transpose();
        let gap = self.dst_gap.or(gap.map_err(text)?).unwrap_or_default();
        let fold = self.dst_fold.or(fold.map_err(text)?).unwrap_or_default();
        Ok((gap, fold))
    }

    /// The catch-up rules; what is not given is as in the row, else the default.
    pub(super) fn catch_up_rules(&self, row: Option<&ScheduleRow>) -> Result<CatchUpRules, String> {
        let usual = CatchUpRules::default();
        let mut rules = row.map_or(Ok(usual), |row| row.catch_up_rules(usual.tolerance).map_err(text))?;
        let max = self.catch_up_max.or(row.map(|row| row.catch_up_max)).unwrap_or(10);
        match (self.catch_up, rules.policy) {
            (Some(CatchUpArg::Skip), _) => rules.policy = CatchUp::Skip,
            (Some(CatchUpArg::Last), _) => rules.policy = CatchUp::Last,
            (Some(CatchUpArg::All), _) | (None, CatchUp::All { .. }) => rules.policy = CatchUp::All { max },
            (None, _) => {}
        }
        if self.catch_up_max.is_some() && !matches!(rules.policy, CatchUp::All { .. }) {
            return Err("--catch-up-max needs --catch-up all".to_owned());
        }
        rules.window = self.catch_up_window.unwrap_or(rules.window);
        if rules.window < rules.tolerance {
            return Err(format!(
                "--catch-up-window {} is too short, slots fire a moment after their time; write at least {}, and \
                 --catch-up skip to fire no missed slot",
                humantime::format_duration(rules.window),
                humantime::format_duration(rules.tolerance)
            ));
        }
        Ok(rules)
    }
}

/// How the runs of a schedule are claimed and found.
#[derive(Debug, Clone, Default, Args)]
pub struct RunArgs {
    /// Claim its runs from this queue instead of the one with their workflow's name
    #[arg(long, value_name = "NAME", value_parser = parse_name)]
    pub queue: Option<String>,
    /// Claim them before runs of lower priority, even those queued up to 15 seconds earlier per step of priority: 0 to 20 [default: 0]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(0..=i64::from(HIGHEST_PRIORITY)))]
    pub priority: Option<u8>,
    /// On whose behalf they run: in a fair queue tenants take turns
    #[arg(long, value_name = "NAME", value_parser = parse_name)]
    pub tenant: Option<String>,
    /// Count them under this key where their queue has a limit for each key
    #[arg(long, value_name = "KEY", value_parser = parse_name)]
    pub limit_key: Option<String>,
    /// By what they are found later; may be given several times, and those that are given are all they have. What reads as a number or a boolean is one; "42" in quotes is a string
    #[arg(long = "attribute", value_name = "NAME=VALUE", value_parser = parse_attribute)]
    pub attributes: Vec<(String, Value)>,
}

/// A schedule to create or change.
#[derive(Debug, Clone, Args)]
pub struct SetArgs {
    /// Its name
    pub name: String,
    /// Change only what is given; without it what is not given gets its default
    #[arg(long)]
    pub keep: bool,
    /// The workflow it starts
    #[arg(long, required_unless_present = "keep")]
    pub workflow: Option<String>,
    /// When, such as `30 6 * * MON-FRI`, `*/15 * * * *` or `@daily`
    #[arg(long, required_unless_present = "keep")]
    pub cron: Option<String>,
    /// The IANA time zone of the cron text [default: UTC]
    #[arg(long, visible_alias = "tz")]
    pub timezone: Option<String>,
    /// The input of its runs [default: {}]
    #[arg(long, value_name = "JSON")]
    pub params: Option<String>,
    /// The rules
    #[command(flatten)]
    pub rules: RuleArgs,
    /// A slot comes while a run of it is not over: `skip` it, `queue` behind it, or `allow` both [default: skip]
    #[arg(long)]
    pub overlap: Option<Overlap>,
    /// Its runs start up to this long after their slot [default: 0s]
    #[arg(long, value_parser = humantime::parse_duration)]
    pub jitter: Option<Duration>,
    /// Messages per second of its runs
    #[arg(long, value_parser = clap::value_parser!(i32).range(1..))]
    pub pace: Option<i32>,
    /// Its runs fail when not over after this long
    #[arg(long, value_parser = humantime::parse_duration)]
    pub deadline: Option<Duration>,
    /// How they are claimed and found
    #[command(flatten)]
    pub runs: RunArgs,
    /// Why, for the record
    #[arg(long)]
    pub reason: Option<String>,
}

impl SetArgs {
    /// The schedule, when all of it can be used. What is not given is as in `kept`, else the default.
    pub(super) fn checked(
        &self,
        kept: Option<&ScheduleView>,
        registry: Option<&Registry>,
    ) -> Result<ScheduleSpec, String> {
        let spec = self.spec(kept)?;
        if spec.name.trim().is_empty() || spec.workflow.is_empty() {
            return Err("a schedule needs a name and a workflow".to_owned());
        }
        Calendar::parse(&spec.cron, &spec.timezone, spec.dst_gap, spec.dst_fold).map_err(text)?;
        serde_json::from_slice::<IgnoredAny>(&spec.params)
            .map_err(|error| format!("--params is not JSON: {error}; for example '{{\"day\": \"yesterday\"}}'"))?;
        if let Some(registry) = registry {
            registry
                .check(&spec.workflow, &spec.params)
                .map_err(|error| format!("{error:#}"))?;
        }
        if spec.jitter > LONGEST_JITTER {
            return Err("--jitter is longer than a day".to_owned());
        }
        if spec.deadline.is_some_and(|deadline| deadline.is_zero()) {
            return Err("--deadline is zero; leave it out for none".to_owned());
        }
        if let Some(wrong) = misfit_attributes(&spec.attributes) {
            return Err(format!("--attribute: {wrong}"));
        }
        Ok(spec)
    }

    fn spec(&self, kept: Option<&ScheduleView>) -> Result<ScheduleSpec, String> {
        let row = kept.map(|view| &view.row);
        let (dst_gap, dst_fold) = self.rules.clock_rules(row)?;
        let rules = self.rules.catch_up_rules(row)?;
        let kept_overlap = kept.map(|view| view.overlap.parse()).transpose().map_err(text)?;
        let params = self.params.as_ref().map(|params| params.clone().into_bytes());
        let or = |given: &Option<String>, kept: Option<&String>| given.clone().or(kept.cloned());
        Ok(ScheduleSpec {
            name: self.name.clone(),
            workflow: or(&self.workflow, kept.map(|view| &view.workflow)).unwrap_or_default(),
            cron: or(&self.cron, row.map(|row| &row.cron)).unwrap_or_default(),
            timezone: or(&self.timezone, row.map(|row| &row.timezone)).unwrap_or_else(|| "UTC".to_owned()),
            params: params
                .or(kept.map(|view| view.params.clone()))
                .unwrap_or_else(|| b"{}".to_vec()),
            dst_gap,
            dst_fold,
            catch_up: rules.policy,
            catch_up_window: rules.window,
            overlap: self.overlap.or(kept_overlap).unwrap_or_default(),
            jitter: self.jitter.or(row.map(|row| row.jitter)).unwrap_or_default(),
            pace_per_s: self.pace.or(kept.and_then(|view| view.pace_per_s)),
            deadline: self.deadline.or(kept.and_then(|view| view.deadline)),
            queue: or(&self.runs.queue, kept.and_then(|view| view.queue.as_ref())),
            priority: self
                .runs
                .priority
                .or(kept.map(|view| view.priority))
                .unwrap_or_default(),
            tenant: or(&self.runs.tenant, kept.and_then(|view| view.tenant.as_ref())),
            limit_key: or(&self.runs.limit_key, kept.and_then(|view| view.limit_key.as_ref())),
            attributes: match kept {
                Some(view) if self.runs.attributes.is_empty() => view.attributes.clone(),
                _ => self.runs.attributes.iter().cloned().collect(),
            },
        })
    }
}

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}
