//! The workflows that ship with Lockgate, and the demo domain they work on.

pub mod bench;
pub mod demo;
pub mod email_sender;
pub mod registration;
pub mod tracker;

mod daily_task_reports;
mod task_reminders;

pub use daily_task_reports::{DailyTaskReports, ReportInput, ReportSummary};
pub use task_reminders::{Reminded, ReminderInput, TaskReminder, TaskReminders};
