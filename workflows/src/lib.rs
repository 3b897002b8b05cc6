//! The workflows that ship with Lockgate, and the demo domain they work on.

pub mod bench;
pub mod demo;
pub mod email_sender;
pub mod registration;
pub mod shop;
pub mod tracker;

mod approve_expense;
mod daily_task_reports;
mod process_order;
mod processes;
mod task_reminders;

pub use approve_expense::{ApproveExpense, Decision, Expense};
pub use daily_task_reports::{DailyTaskReports, ReportInput, ReportSummary};
pub use process_order::{NewOrder, ProcessOrder};
pub use task_reminders::{Reminded, ReminderInput, TaskReminder, TaskReminders};
