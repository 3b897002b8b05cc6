//! Metrics of processes.

use super::*;

/// Bounds of times of messages and requests, as the conventions advise.
const CALL: &[f64] = &[
    0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0,
];
/// Bounds of times of statements: those of the conventions, and finer ones, as most take less than their least.
const STATEMENT: &[f64] = &[
    0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0,
];
/// Bounds of times of runs, steps and batches.
const WORK: &[f64] = &[
    0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0, 3600.0,
];
/// Bounds of sizes.
const SIZE: &[f64] = &[1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1000.0];
const NONE: &[f64] = &[];

macro_rules! metrics {
    ($list:ident: $($id:ident = $kind:ident $name:literal [$unit:literal] ($($attribute:ident),*) $bounds:ident $source:ident $when:ident => $about:literal;)*) => {
        $(
            #[doc = $about]
            pub static $id: MetricDef = MetricDef {
                name: $name,
                kind: Kind::$kind,
                unit: $unit,
                about: $about,
                attributes: &[$(&$attribute),*],
                bounds: $bounds,
                source: Source::$source,
                when: When::$when,
            };
        )*
        /// All of them.
        pub static $list: &[&MetricDef] = &[$(&$id),*];
    };
}
pub(super) use metrics;

metrics! { PROCESS_METRICS:
    ITEMS_DONE = Counter "lockgate.items" ["{item}"] (WORKFLOW, ITEM_OUTCOME) NONE Worker AtWork => "items of fan-outs whose batch was finished, by what became of them";
    BATCHES_DONE = Counter "lockgate.batches" ["{batch}"] (WORKFLOW, BATCH_END) NONE Worker AtWork => "batches that were worked on, by how that ended";
    BATCH_HAND_BACKS = Counter "lockgate.batch.hand_backs" ["{batch}"] (HAND_BACK_REASON) NONE Worker InTrouble => "batches that were handed back, by why";
    BATCH_DURATION = Histogram "lockgate.batch.duration" ["s"] (WORKFLOW, BATCH_END) WORK Worker AtWork => "from the claim of a batch to its end here";
    SOURCE_READ_DURATION = Histogram "lockgate.source.read.duration" ["s"] (WORKFLOW, READ_ERROR) WORK Worker AtWork => "reading of the rows of a page of a batch";
    PLAN_ITEMS = Counter "lockgate.plan.items" ["{item}"] (WORKFLOW) NONE Worker AtWork => "items that were planned";
    PLAN_BATCHES = Counter "lockgate.plan.batches" ["{batch}"] (WORKFLOW) NONE Worker AtWork => "batches that were planned";
    PLAN_CHUNK_DURATION = Histogram "lockgate.plan.chunk.duration" ["s"] (WORKFLOW) WORK Worker AtWork => "reading and writing of one page of a plan";
    WINDOW_USED = Gauge "lockgate.window.used" ["{message}"] () NONE Worker Always => "items sent whose outcome is not committed";
    WINDOW_SIZE = Gauge "lockgate.window.size" ["{message}"] () NONE Worker Always => "most items that may be so";
    WORKER_SLOTS = Gauge "lockgate.worker.slots" ["{batch}"] (SLOT_STATE) NONE Worker Always => "places for batches";

    RUNS_STARTED = Counter "lockgate.runs.started" ["{run}"] (WORKFLOW, STARTED_FROM) NONE Process AtWork => "runs that were started; what the CLI, SQL, a caller's transaction and repetitions start is counted by the leader within two sweeps";
    RUNS_CLAIMED = Counter "lockgate.runs.claimed" ["{run}"] (WORKFLOW, SUSPECT) NONE Worker AtWork => "runs that were claimed";
    RUNS_ENDED = Counter "lockgate.runs.ended" ["{run}"] (WORKFLOW, RUN_OUTCOME) NONE Process AtWork => "runs that ended here; those that were stopped, and those set aside for their holders' deaths, are counted by the leader";
    RUNS_LEFT = Counter "lockgate.runs.left" ["{run}"] (WORKFLOW, LEFT_REASON) NONE Worker AtWork => "runs that were let go of without an end";
    RUN_DURATION = Histogram "lockgate.run.duration" ["s"] (WORKFLOW, RUN_OUTCOME) WORK Process AtWork => "from the start of a run to its end";
    RUN_PICKUP_DURATION = Histogram "lockgate.run.pickup.duration" ["s"] (WORKFLOW) WORK Worker AtWork => "from the start of a run to its first claim, with the delay that was asked for";
    RUNS_IN_FLIGHT = Gauge "lockgate.runs.in_flight" ["{run}"] () NONE Worker Always => "runs that are held here";
    RUN_SLOTS = Gauge "lockgate.run.slots" ["{run}"] () NONE Worker Always => "most runs that may be";
    STEPS_DONE = Counter "lockgate.steps" ["{step}"] (WORKFLOW, STEP_KIND, STEP_OUTCOME) NONE Worker AtWork => "steps that were recorded here";
    STEP_DURATION = Histogram "lockgate.step.duration" ["s"] (WORKFLOW, STEP_KIND, STEP_OUTCOME) WORK Worker AtWork => "one try of the code of a step";
    STEP_RETRIES = Counter "lockgate.step.retries" ["{try}"] (WORKFLOW) NONE Worker InTrouble => "tries of steps that failed and are repeated";
    GROUP_SIZE = Histogram "lockgate.group.size" ["{write}"] (GROUP) SIZE Worker AtWork => "writes of many runs that went in one statement";
    GROUP_DURATION = Histogram "lockgate.group.duration" ["s"] (GROUP, STORE_ERROR) STATEMENT Worker AtWork => "how long such a statement took";
    GROUP_WAITING = Gauge "lockgate.group.waiting" ["{write}"] (GROUP) NONE Worker Always => "writes that wait for theirs";

    LEASES_RENEWED = Counter "lockgate.leases.renewed" ["{lease}"] (LEASE_KIND) NONE Worker AtWork => "leases that were renewed";
    LEASES_LOST = Counter "lockgate.leases.lost" ["{lease}"] (LEASE_KIND) NONE Worker Always => "leases that ended under their holder";
    RECOVERED = Counter "lockgate.recovered" ["{thing}"] (RECOVERED_KIND) NONE Candidate InTrouble => "what the leader took over from holders that are gone";
    LEADING = Gauge "lockgate.leading" ["{leader}"] () NONE Candidate Always => "1 while it leads, else 0";
    LEADERLESS_DURATION = Gauge "lockgate.leaderless.duration" ["s"] () NONE Candidate Always => "for how long this candidate has not known of a leader";
    LEADER_TERM = Gauge "lockgate.leader.term" ["{term}"] () NONE Candidate AtWork => "the term in which it leads";
    ELECTIONS = Counter "lockgate.leader.elections" ["{election}"] (ELECTION_END) NONE Candidate AtWork => "how candidacies and terms ended";
    JOB_DURATION = Histogram "lockgate.leader.job.duration" ["s"] (JOB, JOB_OUTCOME) STATEMENT Candidate AtWork => "one turn of a job of the leader";
    SCHEDULE_SLOTS = Counter "lockgate.schedule.slots" ["{slot}"] (SLOT_OUTCOME) NONE Candidate AtWork => "slots of schedules that came";
    SCHEDULE_LAG = Histogram "lockgate.schedule.lag" ["s"] () WORK Candidate AtWork => "from the instant of a slot to its firing";
    RETENTION_ROWS = Counter "lockgate.retention.rows" ["{row}"] (PRUNED) NONE Candidate AtWork => "rows that retention deleted";

    SENT_MESSAGES = Counter "messaging.client.sent.messages" ["{message}"] (MESSAGING_SYSTEM, MESSAGING_SEND, TOPIC, PATH, SEND_ERROR) NONE Process AtWork => "messages that were sent, with error.type where they were not delivered";
    SEND_DURATION = Histogram "messaging.client.operation.duration" ["s"] (MESSAGING_SYSTEM, MESSAGING_SEND, TOPIC, PATH) CALL Process AtWork => "from the first offer of a batch or page to its last outcome";
    KAFKA_OUTSTANDING = Gauge "lockgate.kafka.outstanding" ["{message}"] () NONE Process Always => "messages without an outcome";
    KAFKA_PRODUCERS = Counter "lockgate.kafka.producers" ["{producer}"] () NONE Process Always => "producers that were made; more than one: the last one failed";
    KAFKA_QUEUE_MESSAGES = Gauge "lockgate.kafka.queue.messages" ["{message}"] () NONE Process AtWork => "messages in the queue of the client library";
    KAFKA_QUEUE_SIZE = Gauge "lockgate.kafka.queue.size" ["By"] () NONE Process AtWork => "their bytes";
    KAFKA_BROKER_RTT = Gauge "lockgate.kafka.broker.rtt" ["s"] (QUANTILE) NONE Process AtWork => "round trip of requests to the slowest broker";
    KAFKA_BROKER_QUEUEING = Gauge "lockgate.kafka.broker.queueing" ["s"] (QUANTILE) NONE Process AtWork => "how long messages waited in the client for the slowest broker";
    KAFKA_THROTTLE = Gauge "lockgate.kafka.throttle" ["s"] () NONE Process AtWork => "how long a broker has told this client to wait";
    BREAKER_STATE = Gauge "lockgate.breaker.state" ["{state}"] (TOPIC) NONE Worker AtWork => "0 closed, 1 half open, 2 open";
    BREAKER_OPENED = Counter "lockgate.breaker.opened" ["{opening}"] (TOPIC, BREAKER_REASON) NONE Worker InTrouble => "how often the breaker of a topic opened";

    DIRECT_COMMANDS = Counter "lockgate.direct.commands" ["{command}"] (DIRECT_OUTCOME) NONE Door Always => "direct commands, by what became of them";
    DIRECT_STORED = Counter "lockgate.direct.stored" ["{command}"] (STORED_REASON) NONE Door Always => "direct commands that were stored instead of sent";
    DIRECT_WAITING = Gauge "lockgate.direct.waiting" ["{command}"] (DIRECT_QUEUE) NONE Door Always => "direct commands that wait";
    DIRECT_IN_FLIGHT = Gauge "lockgate.direct.in_flight" ["{command}"] () NONE Door Always => "direct commands sent whose outcome is not known";
    DIRECT_STALLED = Gauge "lockgate.direct.stalled" ["{state}"] () NONE Door Always => "1 while the brokers stand still and all commands are stored, else 0";
    OUTBOX_MESSAGES = Counter "lockgate.outbox.messages" ["{message}"] (RELAY_OUTCOME) NONE Worker AtWork => "commands of the outbox that were sent, by what became of them";
    OUTBOX_LANES = Gauge "lockgate.outbox.lanes" ["{lane}"] () NONE Worker Always => "lanes of the outbox that are held here";
    REDELIVERED = Counter "lockgate.redelivery.messages" ["{message}"] (REDELIVERY_OUTCOME) NONE Worker InTrouble => "undelivered messages that were tried again";

    CONSUMED_MESSAGES = Counter "messaging.client.consumed.messages" ["{message}"] (MESSAGING_SYSTEM, MESSAGING_POLL, TOPIC, CONSUMER_GROUP) NONE Consumer AtWork => "messages that were read";
    PROCESS_DURATION = Histogram "messaging.process.duration" ["s"] (MESSAGING_SYSTEM, MESSAGING_PROCESS, TOPIC, CONSUMER_GROUP, PROCESS_ERROR) CALL Consumer AtWork => "settling of a page of messages";
    CONSUMER_LAG = Gauge "lockgate.consumer.lag" ["{message}"] (TOPIC, CONSUMER_GROUP) NONE Consumer AtWork => "messages that are not settled of the partitions that a consumer holds, as of the client library's last look";
    INBOX_MESSAGES = Counter "lockgate.inbox.messages" ["{message}"] (CONSUMER_GROUP, INBOX_OUTCOME) NONE Consumer AtWork => "messages that were settled, by what became of them";
    MAILS = Counter "lockgate.mails" ["{mail}"] (MAIL_OUTCOME) NONE Consumer AtWork => "e-mails that were tried, by what became of them; barred also for each page of which some wait since the mail server grants no connection";

    DB_DURATION = Histogram "db.client.operation.duration" ["s"] (DB_SYSTEM, DB_VERB, STORE_ERROR) STATEMENT Process AtWork => "one verb of a store";
    DB_CONNECTIONS = Gauge "db.client.connection.count" ["{connection}"] (POOL, CONNECTION_STATE) NONE Process Always => "connections to Postgres";
    DB_CONNECTIONS_MAX = Gauge "db.client.connection.max" ["{connection}"] (POOL) NONE Process Always => "most connections of that pool";
    DB_WAIT_TIME = Histogram "db.client.connection.wait_time" ["s"] (POOL) STATEMENT Process AtWork => "waiting for a free connection";
    DB_TIMEOUTS = Counter "db.client.connection.timeouts" ["{timeout}"] (POOL) NONE Process InTrouble => "waits for a connection that were given up";
    HTTP_DURATION = Histogram "http.server.request.duration" ["s"] (HTTP_METHOD, URL_SCHEME, HTTP_ROUTE, HTTP_STATUS, HTTP_ERROR) CALL Door AtWork => "requests to the HTTP API";
    HTTP_ACTIVE = Gauge "http.server.active_requests" ["{request}"] (HTTP_METHOD, URL_SCHEME) NONE Door AtWork => "requests that are being answered";
    CLOCK_OFFSET = Gauge "lockgate.clock.offset" ["s"] () NONE Process Always => "the database's clock less this process's";

    PROCESS_CPU = Counter "process.cpu.time" ["s"] (CPU_MODE) NONE Process Always => "time of processors that this process used";
    PROCESS_MEMORY = Gauge "process.memory.usage" ["By"] () NONE Process Always => "memory of this process that is resident";
    PROCESS_FILES = Gauge "process.unix.file_descriptor.count" ["{file_descriptor}"] () NONE Process Always => "open files and connections";
    RUNTIME_TASKS = Gauge "lockgate.runtime.tasks" ["{task}"] () NONE Process Always => "tasks of the runtime that are alive";
    RUNTIME_QUEUE = Gauge "lockgate.runtime.queue" ["{task}"] () NONE Process Always => "tasks that wait for a thread";
    RUNTIME_BUSY = Counter "lockgate.runtime.busy" ["s"] () NONE Process Always => "time in which the runtime's threads worked";
    TELEMETRY_MADE = Counter "lockgate.telemetry.made" ["{record}"] (SIGNAL) NONE Process Always => "records that were handed to an exporter, or left out because its queue was full";
    TELEMETRY_EXPORTED = Counter "lockgate.telemetry.exported" ["{record}"] (SIGNAL, EXPORTED) NONE Process Always => "records that an exporter sent, by whether they were taken";
}
