//! Holds the house rules that a machine can check: sizes, seams, queries, words. Every check is a function over the files
//! of the repository, so that its own test can hand it a bad sample and see it complain.

#![allow(clippy::unwrap_used)]

mod citations;
mod commands;
mod errors;
mod events;
mod queries;
mod rust;
mod seams;
mod sizes;
mod sql;
mod tree;
mod words;

use tree::{File, Finding};

/// Runs one check over the repository and fails with all that it found.
fn hold(check: impl Fn(&[File]) -> Vec<Finding>) {
    let files = tree::repository();
    assert!(
        files.iter().any(|file| file.path == "Cargo.toml"),
        "the repository was not found, so nothing was checked"
    );
    let findings: Vec<String> = check(&files).iter().map(Finding::to_string).collect();
    assert!(
        findings.is_empty(),
        "{} to mend:\n{}",
        findings.len(),
        findings.join("\n")
    );
}

#[test]
fn files_are_short() {
    hold(sizes::files);
}

#[test]
fn functions_are_short() {
    hold(sizes::functions);
}

#[test]
fn adapters_keep_their_libraries_to_themselves() {
    hold(seams::check);
}

#[test]
fn every_query_is_used_and_exists() {
    hold(queries::used);
}

#[test]
fn a_query_file_holds_one_statement() {
    hold(queries::one_statement);
}

#[test]
fn predicates_read_the_clock_not_the_transaction() {
    hold(queries::clock);
}

#[test]
fn log_lines_are_events_of_the_catalogue() {
    hold(events::check);
}

#[test]
fn errors_may_get_new_cases() {
    hold(errors::check);
}

#[test]
fn documents_name_commands_that_there_are() {
    hold(commands::check);
}

#[test]
fn every_requirement_is_shown_by_what_cites_it() {
    hold(citations::check);
}

#[test]
fn sql_is_static() {
    hold(queries::is_static);
}

#[test]
fn nothing_is_unfinished_or_unwrapped() {
    hold(words::unfinished);
}

#[test]
fn no_file_names_a_path_of_one_machine() {
    hold(words::machine_paths);
}

#[test]
fn no_conflict_marker_is_left() {
    hold(words::conflict_markers);
}
