//! Processes that this one starts and ends.

use std::io::Error;

use rustix::process::{Pid, Signal, kill_process};
use tokio::process::Child;

/// Asks a process to end in good order. One that has ended is left alone.
pub(crate) fn ask_to_end(child: &Child) -> std::io::Result<()> {
    let Some(id) = child.id() else { return Ok(()) };
    let pid = i32::try_from(id).ok().and_then(Pid::from_raw);
    let pid = pid.ok_or_else(|| Error::other(format!("{id} is no id of a process")))?;
    Ok(kill_process(pid, Signal::TERM)?)
}
