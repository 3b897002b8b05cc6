//! Where and in what order a run is claimed: its queue, priority, tenant, limit key and debounce key.

use std::time::Duration;

use super::Start;
use crate::workflow::Workflow;

impl<W: Workflow> Start<W> {
    /// Claims it from this queue instead of the one with its workflow's name.
    pub fn queue(mut self, name: impl Into<String>) -> Self {
        self.request.queue = Some(name.into());
        self
    }

    /// Claims it before runs of lower priority that came up to 15 seconds a step earlier; from 0, the ordinary one, to 20.
    pub fn priority(mut self, priority: u8) -> Self {
        self.request.priority = priority;
        self
    }

    /// Says on whose behalf it runs: in a fair queue tenants take turns.
    pub fn tenant(mut self, tenant: impl Into<String>) -> Self {
        self.request.tenant = Some(tenant.into());
        self
    }

    /// Counts it under this key where its queue has a limit for each key (`max_per_key`).
    pub fn limit_key(mut self, key: impl Into<String>) -> Self {
        self.request.limit_key = Some(key.into());
        self
    }

    /// Starts it after this delay, unless another start under the same key comes before: then the one run that is queued
    /// gets that one's input, and waits anew. The handle is then that run's.
    pub fn debounce(mut self, key: impl Into<String>, delay: Duration) -> Self {
        self.request.debounce_key = Some(key.into());
        self.request.delay = Some(delay);
        self
    }
}
