//! How schedules are shown.

use std::io::Write;

use chrono::{DateTime, Utc};
use comfy_table::{Table, presets};
use serde::Serialize;

use super::SchedulesError;
use crate::postgres::ScheduleView;
use crate::trigger::{Calendar, CatchUpRules, PreviewRow};

/// For whom the answer is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ScheduleFormat {
    /// People.
    #[default]
    Table,
    /// One JSON document.
    Json,
    /// A JSON document a line.
    Jsonl,
}

#[derive(Serialize)]
struct Listed<'a> {
    name: &'a str,
    workflow: &'a str,
    cron: &'a str,
    timezone: &'a str,
    state: &'static str,
    next_slot: Option<DateTime<Utc>>,
    last_slot: Option<DateTime<Utc>>,
    paused_at: Option<DateTime<Utc>>,
    problem: Option<&'a str>,
    dst_gap: &'a str,
    dst_fold: &'a str,
    catch_up: &'a str,
    catch_up_max: u32,
    catch_up_window: String,
    overlap: &'a str,
    jitter: String,
    pace_per_s: Option<i32>,
    deadline: Option<String>,
    queue: Option<&'a str>,
    priority: u8,
    tenant: Option<&'a str>,
    limit_key: Option<&'a str>,
    attributes: &'a serde_json::Map<String, serde_json::Value>,
    params: Option<serde_json::Value>,
    revision: i64,
}

#[derive(Serialize)]
struct Outcome<'a> {
    schedule: &'a str,
    outcome: &'a str,
}

pub(super) fn list(views: &[ScheduleView], format: ScheduleFormat, out: &mut dyn Write) -> Result<(), SchedulesError> {
    if format != ScheduleFormat::Table {
        return documents(&views.iter().map(listed).collect::<Vec<_>>(), format, out);
    }
    if views.is_empty() {
        writeln!(out, "there are no schedules; `lockgate schedules set` makes one")?;
        return Ok(());
    }
    let mut table = plain_table(&["name", "workflow", "cron", "time zone", "state", "next", "last"]);
    for view in views {
        let row = &view.row;
        table.add_row(vec![
            row.name.clone(),
            view.workflow.clone(),
            row.cron.clone(),
            row.timezone.clone(),
            state(view).to_owned(),
            view.next_slot.map_or_else(|| "-".to_owned(), instant),
            row.last_slot.map_or_else(|| "-".to_owned(), instant),
        ]);
    }
    writeln!(out, "{table}")?;
    for view in views {
        if let Some(problem) = &view.problem {
            writeln!(out, "{} cannot fire: {problem}", view.row.name)?;
        }
    }
    Ok(())
}

pub(super) fn preview(
    stored: Option<&ScheduleView>,
    calendar: &Calendar,
    rules: &CatchUpRules,
    rows: &[PreviewRow],
    format: ScheduleFormat,
    out: &mut dyn Write,
) -> Result<(), SchedulesError> {
    if format != ScheduleFormat::Table {
        return documents(rows, format, out);
    }
    let kind = if calendar.is_fixed_time() {
        "times of day"
    } else {
        "an interval"
    };
    let window = humantime::format_duration(rules.window);
    writeln!(
        out,
        "`{}` in {} ({kind}), catch-up {} within {window}",
        calendar.cron(),
        calendar.zone(),
        rules.policy
    )?;
    if let Some(view) = stored {
        describe(view, out)?;
    }
    let mut table = plain_table(&["local time", "slot (UTC)", "fires at (UTC)", "slots", "note"]);
    for row in rows {
        table.add_row(vec![
            row.local.format("%a %Y-%m-%d %H:%M:%S %:z").to_string(),
            instant(row.slot),
            row.fires_at.map_or_else(|| "never".to_owned(), instant),
            row.slots.to_string(),
            row.note.clone(),
        ]);
    }
    writeln!(out, "{table}")?;
    Ok(())
}

fn describe(view: &ScheduleView, out: &mut dyn Write) -> Result<(), SchedulesError> {
    if let Some(since) = view.paused_at {
        writeln!(
            out,
            "paused since {}: nothing fires until it is resumed",
            instant(since)
        )?;
    }
    if !view.row.jitter.is_zero() {
        let jitter = humantime::format_duration(view.row.jitter);
        writeln!(out, "its runs start up to {jitter} after they fire")?;
    }
    let given = given(view);
    if !given.is_empty() {
        writeln!(out, "its runs have {}", given.join(", "))?;
    }
    Ok(())
}

/// How its runs are claimed and found, as far as something is set.
fn given(view: &ScheduleView) -> Vec<String> {
    let named = [
        ("queue", &view.queue),
        ("tenant", &view.tenant),
        ("limit key", &view.limit_key),
    ];
    let named = named
        .iter()
        .filter_map(|(what, name)| Some(format!("{what} {}", name.as_deref()?)));
    let priority = (view.priority > 0).then(|| format!("priority {}", view.priority));
    let attributes = view
        .attributes
        .iter()
        .map(|(name, value)| format!("attribute {name}={value}"));
    named.chain(priority).chain(attributes).collect()
}

pub(super) fn outcome(
    name: &str,
    outcome: &str,
    format: ScheduleFormat,
    out: &mut dyn Write,
) -> Result<(), SchedulesError> {
    let answer = Outcome {
        schedule: name,
        outcome,
    };
    match format {
        ScheduleFormat::Table => writeln!(out, "schedule {name}: {outcome}")?,
        ScheduleFormat::Json | ScheduleFormat::Jsonl => writeln!(out, "{}", json(&answer)?)?,
    }
    Ok(())
}

pub(super) fn documents<T: Serialize>(
    rows: &[T],
    format: ScheduleFormat,
    out: &mut dyn Write,
) -> Result<(), SchedulesError> {
    if format == ScheduleFormat::Json {
        writeln!(out, "{}", json(&rows)?)?;
        return Ok(());
    }
    for row in rows {
        writeln!(out, "{}", json(row)?)?;
    }
    Ok(())
}

fn json<T: Serialize + ?Sized>(value: &T) -> Result<String, std::io::Error> {
    serde_json::to_string(value).map_err(std::io::Error::from)
}

fn listed(view: &ScheduleView) -> Listed<'_> {
    let row = &view.row;
    Listed {
        name: &row.name,
        workflow: &view.workflow,
        cron: &row.cron,
        timezone: &row.timezone,
        state: state(view),
        next_slot: view.next_slot,
        last_slot: row.last_slot,
        paused_at: view.paused_at,
        problem: view.problem.as_deref(),
        dst_gap: &row.dst_gap,
        dst_fold: &row.dst_fold,
        catch_up: &row.catch_up,
        catch_up_max: row.catch_up_max,
        catch_up_window: humantime::format_duration(row.catch_up_window).to_string(),
        overlap: &view.overlap,
        jitter: humantime::format_duration(row.jitter).to_string(),
        pace_per_s: view.pace_per_s,
        deadline: view
            .deadline
            .map(|deadline| humantime::format_duration(deadline).to_string()),
        queue: view.queue.as_deref(),
        priority: view.priority,
        tenant: view.tenant.as_deref(),
        limit_key: view.limit_key.as_deref(),
        attributes: &view.attributes,
        params: serde_json::from_slice(&view.params).ok(),
        revision: row.revision,
    }
}

fn state(view: &ScheduleView) -> &'static str {
    match (view.paused_at, &view.problem) {
        (Some(_), _) => "paused",
        (None, Some(_)) => "problem",
        (None, None) => "active",
    }
}

pub(super) fn instant(at: DateTime<Utc>) -> String {
    at.format("%Y-%m-%dT%H:%M:%SZ").to_string()
}

pub(super) fn plain_table(columns: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::UTF8_BORDERS_ONLY);
    table.set_header(columns.to_vec());
    table
}
