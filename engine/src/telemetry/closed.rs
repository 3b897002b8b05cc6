//! Sets of values that labels may have and that never grow while a process runs.

/// A set of values, known when this is compiled.
pub(crate) trait Closed: Copy + 'static {
    /// Each as it stands in labels.
    const VALUES: &'static [&'static str];

    /// Where it stands among them.
    fn index(self) -> usize;

    /// As it stands in labels.
    fn text(self) -> &'static str {
        Self::VALUES[self.index()]
    }

    /// The one that is written so.
    fn named(text: &str) -> Option<Self>;
}

macro_rules! closed {
    ($($(#[$about:meta])* $name:ident { $($variant:ident = $text:literal),* $(,)? })*) => {$(
        $(#[$about])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub(crate) enum $name { $($variant),* }

        impl Closed for $name {
            const VALUES: &'static [&'static str] = &[$($text),*];

            fn index(self) -> usize {
                self as usize
            }

            fn named(text: &str) -> Option<Self> {
                match text {
                    $($text => Some(Self::$variant),)*
                    _ => None,
                }
            }
        }
    )*};
}

closed! {
    /// What became of an item of a fan-out.
    ItemEnd { Delivered = "delivered", Refused = "refused", Unknown = "unknown", Skipped = "skipped", Vanished = "vanished" }
    /// How the work of a replica on a batch ended.
    BatchEnd { Finished = "finished", HandedBack = "handed_back", Lost = "lost", SourceBroken = "source_broken", GivenUp = "given_up" }
    /// Why a batch was handed back; [`HandBackWhy::of`] reads what its row says.
    HandBackWhy {
        BreakerOpen = "breaker_open", CodeNotReached = "code_not_reached", Draining = "draining",
        LeaseInDoubt = "lease_in_doubt", PublisherUnavailable = "publisher_unavailable", SourceFailed = "source_failed",
        Stopped = "stopped", WaitsToRunAlone = "waits_to_run_alone", WindowFull = "window_full", Other = "other",
    }
    /// Who started a run.
    StartedBy { Schedule = "schedule", Api = "api", Cli = "cli", Rust = "rust", Sql = "sql", Repeat = "repeat", Child = "child", Continued = "continued" }
    /// Whether somebody's death is a reason for caution.
    Suspect { Yes = "yes", No = "no" }
    /// How a run ended.
    RunEnd { Completed = "completed", Failed = "failed", Cancelled = "cancelled", Continued = "continued", Quarantined = "quarantined" }
    /// Why a replica let go of a run that has not ended.
    RunLeft { Suspended = "suspended", HandedBack = "handed_back", Lost = "lost", Halted = "halted", Diverged = "diverged" }
    /// What a step is.
    StepKind {
        FanOut = "fan_out", Step = "step", Undoable = "undoable", Transaction = "transaction", Sleep = "sleep",
        Signal = "signal", Child = "child", Version = "version", Select = "select", Publish = "publish",
        Show = "show",
    }
    /// How a step ended.
    StepEnd { Completed = "completed", Failed = "failed", Adopted = "adopted" }
    /// Writes that go together.
    GroupName {
        Steps = "steps", Endings = "endings", Continuations = "continuations", Children = "children",
        Publications = "publications", Births = "births", Starts = "starts",
    }
    /// What a store says that did not do what it was asked.
    StoreTrouble { NotNow = "not_now", Unanswered = "unanswered", Refused = "refused", Damaged = "damaged" }
    /// What a lease is of.
    LeaseKind { Run = "run", Batch = "batch", Lane = "lane", Undelivered = "undelivered", Leader = "leader" }
    /// What the sweep took over.
    Recovered {
        Batch = "batch", Split = "split", Run = "run", FanOut = "fan_out", Stop = "stop", Parent = "parent",
        Follower = "follower", Undelivered = "undelivered",
    }
    /// How a candidacy or a term ended.
    ElectionEnd { Elected = "elected", Resigned = "resigned", Lost = "lost" }
    /// What the leader does again and again.
    LeaderJob { Schedules = "schedules", Sweep = "sweep", Retention = "retention", Measure = "measure", Telling = "telling" }
    /// How it went.
    JobEnd { Done = "done", Failed = "failed" }
    /// What became of a slot of a schedule.
    SlotEnd { Fired = "fired", PassedOver = "passed_over", Problem = "problem" }
    /// What retention deletes.
    Pruned {
        Runs = "runs", Transitions = "transitions", Undelivered = "undelivered", Replicas = "replicas", Inbox = "inbox",
        Measures = "measures",
    }
    /// By which way a message goes.
    SendPath { FanOut = "fan_out", Direct = "direct", Outbox = "outbox", Redelivery = "redelivery" }
    /// Why a message was not delivered.
    SendError {
        TooLarge = "too_large", InvalidRecord = "invalid_record", InvalidTimestamp = "invalid_timestamp",
        InvalidMessage = "invalid_message", InvalidCommand = "invalid_command", NoTopic = "no_topic",
        NoMessage = "no_message", TopicMissing = "topic_missing", NotAuthorised = "not_authorised",
        ProducerFatal = "producer_fatal", Purged = "purged", TimedOut = "timed_out", ConnectionLost = "connection_lost",
        NotAuthenticated = "not_authenticated", NotEnoughReplicas = "not_enough_replicas", BrokerError = "broker_error",
        NotTriedAlone = "not_tried_alone", Other = "other",
    }
    /// Which share of the values is below.
    Quantile { Median = "p50", Most = "p99" }
    /// Why a breaker opened.
    BreakerWhy {
        TopicMissing = "topic_missing", NotAuthorised = "not_authorised", AllBrokersDown = "all_brokers_down",
        ProducerFatal = "producer_fatal", MostlyUnknown = "mostly_unknown",
    }
    /// What became of a direct command.
    DirectEnd {
        Accepted = "accepted", Invalid = "invalid", NotAccepted = "not_accepted", Delivered = "delivered",
        Confirmed = "confirmed", Unplaced = "unplaced",
    }
    /// Why a direct command was stored.
    StoredWhy {
        NotBefore = "not_before", QueueFull = "queue_full", BreakerOpen = "breaker_open", Stalled = "stalled",
        Unconfirmed = "unconfirmed", Unavailable = "unavailable", Stopping = "stopping", Refused = "refused", Other = "other",
    }
    /// What direct commands wait for.
    DirectQueue { Send = "send", Store = "store" }
    /// What became of a command of the outbox.
    RelayEnd { Delivered = "delivered", Refused = "refused", Kept = "kept" }
    /// What became of an undelivered message.
    RedeliveryEnd { Delivered = "delivered", Refused = "refused", Retried = "retried", Dead = "dead", HandedBack = "handed_back" }
    /// What became of a message that was consumed.
    InboxEnd { New = "new", Repeated = "repeated", Dead = "dead" }
    /// Why a page of messages was not settled.
    ProcessTrouble { Database = "database", TooManyDead = "too_many_dead" }
    /// What became of an e-mail.
    MailEnd { Sent = "sent", Failed = "failed", PutOff = "put_off", Barred = "barred" }
    /// Whose connections they are.
    Pool { Main = "main", Leader = "leader", Groups = "groups", Api = "api", Direct = "direct", Client = "client" }
    /// Whether a connection is used.
    ConnectionState { Idle = "idle", Used = "used" }
    /// A method of HTTP.
    Method {
        Get = "GET", Post = "POST", Put = "PUT", Delete = "DELETE", Patch = "PATCH", Head = "HEAD", Options = "OPTIONS",
        Other = "_OTHER",
    }
    /// On whose behalf the processor worked.
    CpuMode { User = "user", System = "system" }
    /// What is exported.
    Signal { Traces = "traces", Metrics = "metrics", Logs = "logs" }
    /// Whether the collector took it.
    Exported { Taken = "taken", Failed = "failed" }
    /// Whether a batch of a worker is used.
    SlotState { Busy = "busy", Idle = "idle" }
    /// How an undelivered message stands.
    UndeliveredStatus { Due = "due", Claimed = "claimed", Refused = "refused", Dead = "dead" }
    /// How a replica is.
    ReplicaState { Live = "live", Draining = "draining", Gone = "gone" }
    /// What can be stuck: the kinds of lockgate.v_stuck.
    StuckKind {
        NoLeader = "no_leader", RunLease = "run_lease", BatchLease = "batch_lease", LaneLease = "lane_lease",
        UndeliveredLease = "undelivered_lease", RunReady = "run_ready", RunStopping = "run_stopping",
        RunOverdue = "run_overdue", RunQuarantined = "run_quarantined", RunPausedLong = "run_paused_long",
        FanOutOpen = "fan_out_open", SourceTrouble = "source_trouble", ScheduleLate = "schedule_late",
        ScheduleBroken = "schedule_broken", UndeliveredDue = "undelivered_due", OutboxWaiting = "outbox_waiting",
        BreakerOpen = "breaker_open", DeadLetters = "dead_letters", OldSnapshot = "old_snapshot", RunUndoing = "run_undoing",
        QueuePaused = "queue_paused", FanOutIdle = "fan_out_idle", RunHeldLong = "run_held_long", RunLate = "run_late",
        ScheduleFailed = "schedule_failed",
    }
    /// What left a claim of a run.
    ExecuteEnd {
        Completed = "completed", Failed = "failed", Continued = "continued", Suspended = "suspended",
        HandedBack = "handed_back", Lost = "lost", Halted = "halted", Quarantined = "quarantined",
    }
}

impl HandBackWhy {
    /// Reads the reason that the row of a batch that was handed back has.
    pub(crate) fn of(reason: &str) -> Self {
        Self::named(&reason.replace(' ', "_")).unwrap_or(Self::Other)
    }
}

impl SendError {
    /// Reads the code of a failure of the publisher.
    pub(crate) fn of(code: &str) -> Self {
        Self::named(code).unwrap_or(Self::Other)
    }
}

impl StoredWhy {
    /// Reads the code of the row of a command that was stored.
    pub(crate) fn of(code: &str) -> Self {
        Self::named(code).unwrap_or_else(|| match SendError::named(code) {
            Some(_) => Self::Refused,
            None => Self::Other,
        })
    }
}

impl Suspect {
    /// Whether it is one.
    pub(crate) fn of(suspect: bool) -> Self {
        if suspect { Self::Yes } else { Self::No }
    }
}

impl Method {
    /// A method that anybody may have written into a request.
    pub(crate) fn of(method: &str) -> Self {
        Self::named(method).unwrap_or(Self::Other)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lifecycle::Kind;

    #[test]
    fn reasons_of_rows_are_read_and_unknown_ones_are_other() {
        assert_eq!(HandBackWhy::of("waits to run alone"), HandBackWhy::WaitsToRunAlone);
        assert_eq!(HandBackWhy::of("something new"), HandBackWhy::Other);
        assert_eq!(SendError::of("timed_out"), SendError::TimedOut);
        assert_eq!(StoredWhy::of("stalled"), StoredWhy::Stalled);
        assert_eq!(StoredWhy::of("too_large"), StoredWhy::Refused);
        assert_eq!(StoredWhy::of("anything"), StoredWhy::Other);
    }

    #[test]
    fn every_kind_of_step_has_its_label() {
        for kind in Kind::ALL {
            assert_eq!(StepKind::named(kind.as_str()).map(Closed::text), Some(kind.as_str()));
        }
    }
}
