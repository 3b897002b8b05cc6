//! Data on stdout, in the form that was asked for; everything else goes to stderr.

use std::io::{IsTerminal, Write};

use chrono::{DateTime, Utc};
use clap::ValueEnum;
use comfy_table::Table;
use serde::Serialize;

use super::{Exit, Failure, Outcome};

/// How data is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people: a table on a terminal, columns separated by tabs otherwise.
    Table,
    /// One JSON document.
    Json,
    /// One JSON document a line.
    Jsonl,
}

/// Where data goes.
#[derive(Debug, Clone, Copy)]
pub struct Output {
    /// How it is printed.
    pub format: Format,
}

impl Output {
    /// Prints a list.
    ///
    /// # Errors
    /// Stdout cannot be written.
    pub fn list<T: Serialize>(
        &self,
        columns: &[&str],
        rows: &[T],
        cells: impl Fn(&T) -> Vec<String>,
    ) -> Result<(), Failure> {
        match self.format {
            Format::Json => write(&format!("{}\n", json(&rows, true)?)),
            Format::Jsonl => {
                let mut text = String::new();
                for row in rows {
                    text.push_str(&json(row, false)?);
                    text.push('\n');
                }
                write(&text)
            }
            Format::Table => write(&table(columns, rows.iter().map(cells))),
        }
    }

    /// Prints one thing; `text` is its form for people.
    ///
    /// # Errors
    /// Stdout cannot be written.
    pub fn one<T: Serialize>(&self, thing: &T, text: impl FnOnce() -> String) -> Result<(), Failure> {
        match self.format {
            Format::Json => write(&format!("{}\n", json(thing, true)?)),
            Format::Jsonl => write(&format!("{}\n", json(thing, false)?)),
            Format::Table => write(&text()),
        }
    }

    /// Prints one thing and ends well.
    ///
    /// # Errors
    /// Stdout cannot be written.
    pub fn done<T: Serialize>(&self, thing: &T, text: impl FnOnce() -> String) -> Outcome {
        self.one(thing, text).map(|()| Exit::Ok)
    }
}

/// Columns as a table on a terminal, separated by tabs otherwise.
pub(super) fn table(columns: &[&str], rows: impl Iterator<Item = Vec<String>>) -> String {
    let rows = rows.map(|row| row.iter().map(|cell| clean(cell)).collect::<Vec<_>>());
    if std::io::stdout().is_terminal() {
        let mut table = Table::new();
        table.load_style(comfy_table::presets::UTF8_BORDERS_ONLY);
        table.set_header(columns.to_vec());
        table.add_rows(rows);
        return format!("{table}\n");
    }
    let mut text = columns.join("\t");
    text.push('\n');
    for row in rows {
        text.push_str(&row.join("\t"));
        text.push('\n');
    }
    text
}

/// Text from the database may hold what a terminal would obey, and tabs would break columns.
pub(super) fn clean(text: &str) -> String {
    text.chars()
        .map(|char| if char.is_control() { ' ' } else { char })
        .collect()
}

/// An instant for people.
pub(super) fn time(at: &DateTime<Utc>) -> String {
    at.format("%Y-%m-%d %H:%M:%SZ").to_string()
}

/// Something that may not be there, for people.
pub(super) fn or_dash<T>(value: Option<&T>, show: impl Fn(&T) -> String) -> String {
    value.map_or_else(|| "-".to_owned(), show)
}

fn json<T: Serialize>(thing: &T, pretty: bool) -> Result<String, Failure> {
    let text = if pretty {
        serde_json::to_string_pretty(thing)
    } else {
        serde_json::to_string(thing)
    };
    text.map_err(|error| Failure::new(Exit::Failed, format!("the answer cannot be written as JSON: {error}")))
}

/// Whoever reads may have seen enough (`… | head`); that is no error.
pub(super) fn write(text: &str) -> Result<(), Failure> {
    let mut stdout = std::io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(Failure::new(Exit::Failed, format!("stdout cannot be written: {error}")).changed(super::Changed::Said))
        }
        _ => Ok(()),
    }
}
