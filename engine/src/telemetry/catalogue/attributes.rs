//! Attributes of spans and metrics.

use super::{Attribute, Values};
use crate::telemetry::closed::*;

macro_rules! attributes {
    ($($id:ident = $name:literal $values:expr => $about:literal;)*) => {
        $(#[doc = $about] pub static $id: Attribute = Attribute { name: $name, about: $about, values: $values };)*
        /// All of them.
        pub static ATTRIBUTES: &[&Attribute] = &[$(&$id),*];
    };
}

use Values::{Bounded, Number, Text};

const fn closed<T: Closed>() -> Values {
    Values::Closed(T::VALUES)
}

attributes! {
    WORKFLOW = "lockgate.workflow" Bounded(59) => "the workflow";
    QUEUE = "lockgate.queue" Bounded(64) => "the queue of runs";
    TABLE = "lockgate.table" Bounded(64) => "a table of ours";
    ITEM_OUTCOME = "lockgate.outcome" closed::<ItemEnd>() => "what became of the item";
    BATCH_END = "lockgate.end" closed::<BatchEnd>() => "how the work on the batch ended";
    HAND_BACK_REASON = "lockgate.reason" closed::<HandBackWhy>() => "why the batch was handed back";
    STARTED_FROM = "lockgate.from" closed::<StartedBy>() => "who started the run";
    SUSPECT = "lockgate.suspect" closed::<Suspect>() => "whether earlier holders of the run died";
    RUN_OUTCOME = "lockgate.outcome" closed::<RunEnd>() => "how the run ended";
    LEFT_REASON = "lockgate.reason" closed::<RunLeft>() => "why the run was let go of";
    STEP_KIND = "lockgate.kind" closed::<StepKind>() => "what the step is";
    STEP_OUTCOME = "lockgate.outcome" closed::<StepEnd>() => "how the step ended";
    GROUP = "lockgate.group" closed::<GroupName>() => "which writes go together";
    STORE_ERROR = "error.type" closed::<StoreTrouble>() => "what the store says that did not do it";
    READ_ERROR = "error.type" Values::Closed(&["failed"]) => "whether it failed";
    LEASE_KIND = "lockgate.kind" closed::<LeaseKind>() => "what the lease is of";
    RECOVERED_KIND = "lockgate.kind" closed::<Recovered>() => "what was taken over";
    ELECTION_END = "lockgate.end" closed::<ElectionEnd>() => "how it ended";
    JOB = "lockgate.job" closed::<LeaderJob>() => "the leader's job";
    JOB_OUTCOME = "lockgate.outcome" closed::<JobEnd>() => "how it went";
    SLOT_OUTCOME = "lockgate.outcome" closed::<SlotEnd>() => "what became of the slot";
    PRUNED = "lockgate.what" closed::<Pruned>() => "what was deleted";
    PATH = "lockgate.path" closed::<SendPath>() => "by which way the message went";
    SEND_ERROR = "error.type" closed::<SendError>() => "why the message was not delivered";
    QUANTILE = "lockgate.quantile" closed::<Quantile>() => "which share is below";
    BREAKER_REASON = "lockgate.reason" closed::<BreakerWhy>() => "why the breaker opened";
    DIRECT_OUTCOME = "lockgate.outcome" closed::<DirectEnd>() => "what became of the command";
    STORED_REASON = "lockgate.reason" closed::<StoredWhy>() => "why the command was stored";
    DIRECT_QUEUE = "lockgate.queue" closed::<DirectQueue>() => "what the command waits for";
    RELAY_OUTCOME = "lockgate.outcome" closed::<RelayEnd>() => "what became of the command of the outbox";
    REDELIVERY_OUTCOME = "lockgate.outcome" closed::<RedeliveryEnd>() => "what became of the undelivered message";
    INBOX_OUTCOME = "lockgate.outcome" closed::<InboxEnd>() => "what became of the message";
    PROCESS_ERROR = "error.type" closed::<ProcessTrouble>() => "why the page was not settled";
    MAIL_OUTCOME = "lockgate.outcome" closed::<MailEnd>() => "what became of the e-mail";
    SLOT_STATE = "lockgate.state" closed::<SlotState>() => "whether it is used";
    SIGNAL = "lockgate.signal" closed::<Signal>() => "traces, metrics or logs";
    EXPORTED = "lockgate.outcome" closed::<Exported>() => "whether the collector took it";
    UNDELIVERED_STATUS = "lockgate.status" closed::<UndeliveredStatus>() => "how the message stands";
    REPLICA_STATE = "lockgate.state" closed::<ReplicaState>() => "how the replica is";
    STUCK_KIND = "lockgate.kind" closed::<StuckKind>() => "what is stuck, as in lockgate.v_stuck";

    MESSAGING_SYSTEM = "messaging.system" Values::Closed(&["kafka"]) => "kafka";
    MESSAGING_OPERATION = "messaging.operation.name" Values::Closed(&["send", "redeliver", "relay", "submit", "poll", "process"]) => "what is done to messages";
    MESSAGING_TYPE = "messaging.operation.type" Values::Closed(&["send", "receive", "process"]) => "the same, in the words of the conventions";
    MESSAGING_SEND = "messaging.operation.name" Values::Closed(&["send"]) => "send";
    MESSAGING_POLL = "messaging.operation.name" Values::Closed(&["poll"]) => "poll";
    MESSAGING_PROCESS = "messaging.operation.name" Values::Closed(&["process"]) => "process";
    TOPIC = "messaging.destination.name" Bounded(24) => "the topic";
    CONSUMER_GROUP = "messaging.consumer.group.name" Bounded(16) => "the group of consumers";
    MESSAGE_COUNT = "messaging.batch.message_count" Number => "how many messages";
    MESSAGE_ID = "messaging.message.id" Text => "the message's id";

    DB_SYSTEM = "db.system.name" Values::Closed(&["postgresql"]) => "postgresql";
    DB_NAMESPACE = "db.namespace" Text => "the database, as its URL names it";
    DB_VERB = "db.operation.name" Bounded(160) => "the verb: a method of a store and the file of its statement";
    DB_SUMMARY = "db.query.summary" Text => "the verb once more, as the conventions want it";
    POOL = "db.client.connection.pool.name" closed::<Pool>() => "whose connections";
    CONNECTION_STATE = "db.client.connection.state" closed::<ConnectionState>() => "whether the connection is used";

    HTTP_METHOD = "http.request.method" closed::<Method>() => "the method";
    HTTP_ROUTE = "http.route" Bounded(80) => "the pattern of the path, never the path";
    HTTP_STATUS = "http.response.status_code" Number => "the status";
    HTTP_ERROR = "error.type" Values::Closed(&["server_error"]) => "whether the status is 5xx";
    URL_SCHEME = "url.scheme" Values::Closed(&["http"]) => "http";
    CPU_MODE = "cpu.mode" closed::<CpuMode>() => "on whose behalf";

    REPLICA = "lockgate.replica" Text => "the replica";
    RUN_ID = "lockgate.run.id" Text => "the run";
    RUN_ATTEMPTS = "lockgate.run.attempts" Number => "how many holders of the run died";
    SCHEDULE = "lockgate.schedule" Text => "the schedule";
    SLOT = "lockgate.slot" Text => "the instant that the run stands for";
    TOKEN = "lockgate.claim.token" Number => "the token of the claim";
    EXECUTE_END = "lockgate.left" closed::<ExecuteEnd>() => "how the claim ended";
    REPLAYED = "lockgate.steps.replayed" Number => "steps whose results were recorded before";
    CODE_VERSION = "lockgate.code.version" Number => "the version of the code that the run began with";
    STEP_PATH = "lockgate.step.path" Text => "the path of the step";
    STEP_ATTEMPTS = "lockgate.step.attempts" Number => "how often the step was tried";
    BATCH_SEQ = "lockgate.batch.seq" Number => "the number of the batch in its run";
    BATCH_ITEMS = "lockgate.batch.items" Number => "its items";
    ITEMS = "lockgate.items" Number => "items";
    BATCHES = "lockgate.batches" Number => "batches";
    CHUNKS = "lockgate.chunks" Number => "pages of the plan that were written";
    DELIVERED = "lockgate.delivered" Number => "messages acknowledged";
    REFUSED = "lockgate.refused" Number => "messages that can never go as they are";
    UNKNOWN = "lockgate.unknown" Number => "messages stored because nobody knows";
    SKIPPED = "lockgate.skipped" Number => "items that need no message";
    VANISHED = "lockgate.vanished" Number => "items that are not there any more";
    RETRIED = "lockgate.retried" Number => "messages that are tried again";
    DEAD = "lockgate.dead" Number => "messages given up";
    HANDED_BACK = "lockgate.handed_back" Number => "what was handed back";
    KEPT = "lockgate.kept" Number => "commands that stay in the outbox";
    LANE = "lockgate.lane" Number => "the lane of the outbox";
    PLACED = "lockgate.placed" Values::Closed(&["delivered", "stored", "refused"]) => "where the command was placed";
    NEW = "lockgate.new" Number => "messages that were new";
    REPEATED = "lockgate.repeated" Number => "messages that had come before";
    MAIL_ATTEMPTS = "lockgate.mail.attempts" Number => "how often the e-mail was tried";
    TERM = "lockgate.leader.term" Number => "the leader's term";
    DONE = "lockgate.done" Number => "how many things the job did";
    IN_TIME = "lockgate.in_time" Values::Closed(&["true", "false"]) => "whether it was within its deadline";
    IN_FLIGHT = "lockgate.in_flight" Number => "what was under way when it began";
    ATTEMPT = "lockgate.attempt" Number => "which try";
    PAUSE = "lockgate.pause" Number => "seconds until the next try";
    ROWS = "lockgate.rows" Number => "rows";
    ERROR_TYPE = "error.type" Text => "what went wrong, from a closed set";
}
