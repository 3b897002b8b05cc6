//! The alert rules.

use super::alert::Alert;
use super::alert::Fires::{Above, Below};
use super::alert::Severity::{Critical, Info, Warning};
use super::consumer_alerts::CONSUMERS;
use super::work_alerts::WORK;

/// Those about who is there and who leads.
const FLEET: &[Alert] = &[
    Alert {
        name: "LockgateNoLeader",
        severity: Critical,
        lasts: "30s",
        expr: "min by (job) (<lockgate.leaderless.duration>)",
        fires: Above(30.0),
        or_absent: Some("lockgate.leaderless.duration"),
        sql: Some(
            "select case when leads then 0 when expires_in_s is null then 1e9 else greatest(-expires_in_s, 0) end as value from lockgate.v_leader",
        ),
        summary: "Nobody leads",
        meaning: "No schedule fires, nothing is recovered from dead holders and nothing is pruned; batches and runs go on. By OTLP the last word of a leader that died stands for five minutes, and this comes as much later.",
        query: "select * from lockgate.v_leader",
        action: "`candidates` is 0: start a replica with role leader, or mend its way to Postgres (log event `leadership_unreachable`). Else those in `v_replicas` with role leader live and reach Postgres, and on their `host` that log event says what they meet. No answer, or a lock timeout: somebody locks the row of `leader_lease`, and the statements of LockgateLeaseOverdue show and end that session.",
        bad: (
            &[
                ("<lockgate.leaderless.duration>{instance=\"a\"}", "0+30x40"),
                ("<lockgate.leaderless.duration>{instance=\"b\"}", "60+30x40"),
            ],
            &[],
        ),
        good: &[
            ("<lockgate.leaderless.duration>{instance=\"a\"}", "0+30x40"),
            ("<lockgate.leaderless.duration>{instance=\"b\"}", "0+0x40"),
        ],
    },
    Alert {
        name: "LockgateSeveralLeaders",
        severity: Warning,
        lasts: "6m",
        expr: "sum by (job) (<lockgate.leading>)",
        fires: Above(1.0),
        or_absent: None,
        sql: None,
        summary: "Two replicas believe that they lead",
        meaning: "One of them is frozen or dead; its writes are fenced by the term. By OTLP a dead one is shown for five more minutes.",
        query: "select replica, host, leads, state, seen_at, silent_s from lockgate.v_replicas where roles like '%leader%' order by leads desc, seen_at desc limit 20",
        action: "Harmless unless it lasts. `lockgate_leading == 1`, asked of Prometheus, has the `instance` of each: by OTLP the id of a replica, by a scrape its address. End the process of the one that the query does not show as `leads`.",
        bad: (
            &[
                ("<lockgate.leading>{instance=\"a\"}", "1+0x40"),
                ("<lockgate.leading>{instance=\"b\"}", "1+0x40"),
            ],
            &[],
        ),
        good: &[
            ("<lockgate.leading>{instance=\"a\"}", "1+0x40"),
            ("<lockgate.leading>{instance=\"b\"}", "0+0x40"),
        ],
    },
    Alert {
        name: "LockgateNoWorker",
        severity: Critical,
        lasts: "2m",
        // Of themselves: what the leader tells of the fleet is not told while nobody leads.
        expr: "count by (job) (<lockgate.run.slots>)",
        fires: Below(1.0),
        or_absent: Some("lockgate.run.slots"),
        sql: Some("select count(*) as value from lockgate.v_replicas where state = 'live' and roles like '%worker%'"),
        summary: "No worker lives",
        meaning: "No batch is sent and no run goes on, whoever else lives. Without the label `job`: nobody is heard at all, which may as well be the way from the replicas to Prometheus. By OTLP the last word of a replica that died stands for five minutes, and this comes as much later.",
        query: "select replica, host, state, roles, seen_at, silent_s from lockgate.v_replicas order by seen_at desc limit 20",
        action: "If `v_replicas` shows live ones, ask whether the collector, or the scrape, and Prometheus work. Else ask the process manager why none runs; `lockgate doctor` says whether the servers can be reached.",
        bad: (
            &[
                ("<lockgate.run.slots>{job=\"a\"}", "64+0x40"),
                ("<lockgate.leading>{job=\"b\"}", "1+0x40"),
            ],
            &[("job", "b")],
        ),
        // That nobody leads has an alert of its own.
        good: &[
            ("<lockgate.run.slots>{job=\"a\"}", "64+0x40"),
            ("<lockgate.leading>{job=\"a\"}", "0+0x40"),
        ],
    },
    Alert {
        name: "LockgateLeaseOverdue",
        severity: Critical,
        lasts: "2m",
        expr: "max by (job) (<lockgate.stuck>{lockgate_kind=~\".*_lease\"})",
        fires: Above(0.0),
        or_absent: None,
        sql: Some("select count(*) as value from lockgate.v_stuck where kind like '%\\_lease'"),
        summary: "A lease has ended and nobody takes over",
        meaning: "A holder is gone and what it held stays where it was: nobody leads, or somebody locks the row.",
        query: "select kind, subject, since, why from lockgate.v_stuck where kind like '%\\_lease' order by since",
        action: "No leader: see LockgateNoLeader. Else, as a superuser, `select pid, usename, application_name, state, xact_start, query from pg_stat_activity where xact_start is not null order by xact_start` shows who may lock it; `select pg_terminate_backend(PID)` ends a session. Never one whose application is `lockgate`: its lease ends by itself.",
        bad: (&[("<lockgate.stuck>{lockgate_kind=\"batch_lease\"}", "1+0x40")], &[]),
        good: &[
            ("<lockgate.stuck>{lockgate_kind=\"batch_lease\"}", "0+0x40"),
            ("<lockgate.stuck>{lockgate_kind=\"run_ready\"}", "4+0x40"),
        ],
    },
    Alert {
        name: "LockgateLeasesLost",
        severity: Warning,
        lasts: "0s",
        expr: "sum by (job) (increase(<lockgate.leases.lost>[10m]))",
        fires: Above(3.0),
        or_absent: None,
        sql: Some(
            "select coalesce(sum(leases_lost), 0) as value from lockgate.v_throughput_1m where \"time\" > clock_timestamp() - interval '10 minutes'",
        ),
        summary: "Leases end under their holders",
        meaning: "Processes freeze or Postgres hangs; what they held is done again by others.",
        query: "select \"time\", leases_lost from lockgate.v_throughput_1m where leases_lost > 0 order by 1 desc limit 20",
        action: "Look at CPU limits of the replicas, at commit times of Postgres, and for the log event `leases_not_renewed`.",
        bad: (&[("<lockgate.leases.lost>{lockgate_kind=\"batch\"}", "0+1x40")], &[]),
        good: &[("<lockgate.leases.lost>{lockgate_kind=\"batch\"}", "7+0x40")],
    },
    Alert {
        name: "LockgateReplicasDie",
        severity: Warning,
        // When Postgres was away for long, all look dead until their next beat.
        lasts: "1m",
        expr: "max by (job) (<lockgate.replicas>{lockgate_state=\"gone\"}) - min_over_time(max by (job) (<lockgate.replicas>{lockgate_state=\"gone\"})[10m:30s])",
        fires: Above(2.0),
        or_absent: None,
        sql: Some(
            "select count(*) as value from lockgate.v_replicas where state = 'gone' and seen_at > clock_timestamp() - interval '10 minutes'",
        ),
        summary: "Replicas die one after the other",
        meaning: "Three and more within ten minutes ended without a word, such as by SIGKILL, lack of memory or an abort. Nothing is lost; of what each had sent and not yet written down, at most `kafka.window` messages are sent again under the same message ids, and its runs and batches wait for a lease.",
        query: "select replica, host, version, started_at, seen_at, silent_s from lockgate.v_replicas where state = 'gone' order by seen_at desc limit 20",
        action: "Ask the platform why they ended (exit code, lack of memory, a liveness probe), and look at what their last log lines have in common. A run that kills its holders is set aside by itself: LockgateRunSetAside. What was done more than once in a run: docs/questions.md.",
        bad: (&[("<lockgate.replicas>{lockgate_state=\"gone\"}", "1+0x32 1+1x7")], &[]),
        good: &[
            ("<lockgate.replicas>{lockgate_state=\"gone\"}", "7+0x32 8+0x7"),
            ("<lockgate.replicas>{lockgate_state=\"live\"}", "1+1x40"),
        ],
    },
    Alert {
        name: "LockgateClockSkew",
        severity: Warning,
        lasts: "5m",
        expr: "max by (job) (abs(<lockgate.clock.offset>))",
        fires: Above(2.0),
        or_absent: None,
        sql: Some(
            "select coalesce(max(abs(clock_offset_s)), 0) as value from lockgate.v_replicas where state = 'live'",
        ),
        summary: "A replica's clock is off",
        meaning: "Nothing is decided by it, but times in logs and spans mislead.",
        query: "select replica, host, clock_offset_s from lockgate.v_replicas where state = 'live' order by abs(clock_offset_s) desc nulls last",
        action: "Repair time synchronisation on that machine.",
        bad: (&[("<lockgate.clock.offset>{instance=\"a\"}", "-3+0x40")], &[]),
        good: &[("<lockgate.clock.offset>{instance=\"a\"}", "0.2+0x40")],
    },
];

/// Those about what does not get to Kafka.
const DELIVERY: &[Alert] = &[
    Alert {
        name: "LockgateBreakerOpen",
        severity: Critical,
        lasts: "1m",
        expr: "max by (job, messaging_destination_name) (<lockgate.breaker.state>)",
        // Half-open counts: while brokers hang it mostly waits for a probe's messages.
        fires: Above(0.0),
        or_absent: None,
        sql: Some("select count(*) as value from lockgate.v_breakers"),
        summary: "A topic takes nothing",
        meaning: "Nothing is sent to that topic: it is missing, not authorised, or its brokers are away. Nothing is lost: its batches wait, commands over HTTP are stored. A service with an orchestrator of its own is no replica: of it only metrics tell. By OTLP the last word of a replica that died stands for five minutes, and this ends as much later.",
        query: "select topic, state, reason, min(since) as since, count(*) as replicas from lockgate.v_breakers group by 1, 2, 3",
        action: "Repair what the reason names; the breaker tries by itself and closes.",
        bad: (
            &[(
                "<lockgate.breaker.state>{messaging_destination_name=\"t\"}",
                "0 2 1+0x2 2 1+0x2 2 1+0x40",
            )],
            &[("messaging_destination_name", "t")],
        ),
        // A probe that comes through closes it.
        good: &[(
            "<lockgate.breaker.state>{messaging_destination_name=\"t\"}",
            "0+0x36 2 1 0+0x40",
        )],
    },
    Alert {
        name: "LockgateOldestUndelivered",
        severity: Warning,
        lasts: "5m",
        expr: "max by (job) (<lockgate.undelivered.oldest.age>{lockgate_status=\"due\"})",
        fires: Above(600.0),
        or_absent: None,
        sql: Some("select coalesce(max(waiting_s), 0) as value from lockgate.v_undelivered where status = 'due'"),
        summary: "Undelivered messages wait for more than ten minutes",
        meaning: "Redelivery does not keep up, or its topic does not take them.",
        query: "select status, reason_code, topic, command_type, messages, oldest from lockgate.v_undelivered_reasons where status = 'due' order by oldest limit 20",
        action: "What was tried in vain counts from its first try: `lockgate undelivered list --status due` shows the last error of each; repair the topic that it names, or where a breaker is open. `select * from lockgate.v_undelivered_topics order by overdue_s desc` has what nobody has tried in time: for that start more workers, or raise `redelivery.page`. Longer delays or more attempts do not help.",
        bad: (
            &[(
                "<lockgate.undelivered.oldest.age>{lockgate_status=\"due\"}",
                "601+30x40",
            )],
            &[],
        ),
        good: &[
            ("<lockgate.undelivered.oldest.age>{lockgate_status=\"due\"}", "0+0x40"),
            (
                "<lockgate.undelivered.oldest.age>{lockgate_status=\"dead\"}",
                "9000+30x40",
            ),
        ],
    },
    Alert {
        name: "LockgateDeadLetters",
        severity: Warning,
        lasts: "5m",
        expr: "max by (job) (<lockgate.undelivered.messages>{lockgate_status=\"dead\"})",
        fires: Above(0.0),
        or_absent: None,
        sql: Some("select messages as value from lockgate.v_undelivered where status = 'dead'"),
        summary: "Messages were given up",
        meaning: "Redelivery tried them as often as it may; they wait for a person.",
        query: "select * from lockgate.v_undelivered_reasons where status = 'dead' order by messages desc",
        action: "Repair the cause. Then `lockgate undelivered redeliver --status dead --topic T --dry-run`, and without `--dry-run`; or `lockgate undelivered discard --status dead --topic T --reason '…'`, which clears key, headers and payload for good. Both want something that narrows them down, or `--all`.",
        bad: (
            &[("<lockgate.undelivered.messages>{lockgate_status=\"dead\"}", "1+0x40")],
            &[],
        ),
        good: &[
            ("<lockgate.undelivered.messages>{lockgate_status=\"dead\"}", "0+0x40"),
            ("<lockgate.undelivered.messages>{lockgate_status=\"due\"}", "9+0x40"),
        ],
    },
    Alert {
        name: "LockgateRefused",
        severity: Warning,
        lasts: "15m",
        expr: "max by (job) (<lockgate.undelivered.messages>{lockgate_status=\"refused\"})",
        fires: Above(0.0),
        or_absent: None,
        sql: Some("select messages as value from lockgate.v_undelivered where status = 'refused'"),
        summary: "Messages can never go as they are",
        meaning: "They are too large or invalid, so nothing tries them again.",
        query: "select * from lockgate.v_undelivered_reasons where status = 'refused' order by messages desc",
        action: "`kills_worker`, `no_topic` and `invalid_command` have no message to send: mend the code or the configuration. `lockgate runs retry RUN --from STEP` then does that step and all behind it again, delivered items too, under the same message ids; where that is too much, start a run for these items alone. Discard these. Else change the limit of the topic, then `lockgate undelivered redeliver --status refused --topic T`; or change what makes them, and give these up: `lockgate undelivered discard --status refused --topic T --reason '…'`, which clears their payloads for good. `--dry-run` counts.",
        bad: (
            &[("<lockgate.undelivered.messages>{lockgate_status=\"refused\"}", "2+0x40")],
            &[],
        ),
        good: &[("<lockgate.undelivered.messages>{lockgate_status=\"refused\"}", "0+0x40")],
    },
    Alert {
        name: "LockgateOutboxBehind",
        severity: Warning,
        lasts: "5m",
        expr: "max by (job) (<lockgate.outbox.oldest.age>)",
        fires: Above(60.0),
        or_absent: None,
        sql: Some("select coalesce(max(oldest_age_s), 0) as value from lockgate.v_outbox_health"),
        summary: "Committed commands wait",
        meaning: "The outbox does not keep up, or a route has no topic.",
        query: "select lane, route, waiting, oldest_age_s, holder, last_error from lockgate.v_outbox_health order by oldest_age_s desc nulls last limit 20",
        action: "Do what `last_error` of the lane names. Where it says nothing: a route that begins with `:` wants `topics.<type>` (log event `outbox_unroutable`), a topic of `v_breakers` is LockgateBreakerOpen, and without a worker whose `window_size` in `v_replicas` is above 0 nobody has brokers. Commands that nobody will ever take go out of the way by `lockgate outbox move --route ROUTE --to-topic TOPIC --reason '…' --dry-run`, as dead undelivered messages.",
        bad: (&[("<lockgate.outbox.oldest.age>", "61+30x40")], &[]),
        good: &[("<lockgate.outbox.oldest.age>", "3+0x40")],
    },
    Alert {
        name: "LockgateDirectStored",
        severity: Warning,
        lasts: "10m",
        expr: "sum by (job) (increase(<lockgate.direct.stored>{lockgate_reason!=\"not_before\"}[10m]))",
        fires: Above(0.0),
        or_absent: None,
        sql: Some(
            "select coalesce(sum(commands_stored), 0) as value from lockgate.v_throughput_1m where \"time\" > clock_timestamp() - interval '10 minutes'",
        ),
        summary: "Direct commands are stored instead of sent",
        meaning: "Kafka does not take them as they come; they go later, by redelivery, at the cost of the database.",
        query: "select \"time\", commands_delivered, commands_stored from lockgate.v_throughput_1m where commands_stored > 0 order by 1 desc limit 20",
        action: "See LockgateBreakerOpen, and the brokers' load. Where no replica has brokers (`window_size` is 0 in `v_replicas`) all are stored: start one that has.",
        bad: (
            &[("<lockgate.direct.stored>{lockgate_reason=\"stalled\"}", "0+1x40")],
            &[],
        ),
        good: &[
            ("<lockgate.direct.stored>{lockgate_reason=\"stalled\"}", "5+0x40"),
            // These are to wait.
            ("<lockgate.direct.stored>{lockgate_reason=\"not_before\"}", "0+9x40"),
        ],
    },
    Alert {
        name: "LockgateDirectLost",
        severity: Critical,
        lasts: "0s",
        expr: "sum by (job) (increase(<lockgate.direct.commands>{lockgate_outcome=~\"not_accepted|unplaced\"}[10m]))",
        fires: Above(0.0),
        or_absent: None,
        sql: None,
        summary: "Direct commands are turned away or lost",
        meaning: "`not_accepted`: neither Kafka nor the database takes them, and their callers were told so. `unplaced`: they had been accepted, and are lost: the process was stopped in such an outage, or they can never be stored (log events `commands_unplaced` and `direct_lost`, which has the id).",
        query: "select replica, host, state, seen_at, silent_s from lockgate.v_replicas order by seen_at desc limit 20",
        action: "No table knows them: look for those log events, and for the caller's own errors. Who is scraped tells `unplaced` of its end to nobody; by OTLP the last export has it. Repair Postgres and Kafka; `direct.queue` and `direct.spill` say how much may wait.",
        bad: (
            &[(
                "<lockgate.direct.commands>{lockgate_outcome=\"not_accepted\"}",
                "0+1x40",
            )],
            &[],
        ),
        good: &[
            ("<lockgate.direct.commands>{lockgate_outcome=\"accepted\"}", "0+100x40"),
            ("<lockgate.direct.commands>{lockgate_outcome=\"unplaced\"}", "0+0x40"),
        ],
    },
];

/// Those about what is told at all.
const TELEMETRY: &[Alert] = &[
    Alert {
        name: "LockgateNotMeasured",
        severity: Warning,
        lasts: "5m",
        expr: "max by (job) (<lockgate.fleet.measured.age>)",
        fires: Above(120.0),
        or_absent: Some("lockgate.fleet.measured.age"),
        sql: None,
        summary: "The fleet is not measured",
        meaning: "Gauges of queues, undelivered messages and stuck things are old, so their alerts are blind.",
        query: "select * from lockgate.v_leader",
        action: "Somebody leads: look for the log event `job_failing` of job measure, and whether `telemetry.fleet_interval` is 0. Else see LockgateNoLeader.",
        bad: (&[("<lockgate.fleet.measured.age>", "121+30x40")], &[]),
        good: &[("<lockgate.fleet.measured.age>", "15+0x40")],
    },
    Alert {
        name: "LockgateTelemetryNotTaken",
        severity: Info,
        lasts: "10m",
        expr: "sum by (job, lockgate_signal) (rate(<lockgate.telemetry.exported>{lockgate_outcome=\"failed\"}[5m]))",
        fires: Above(0.0),
        or_absent: None,
        sql: None,
        summary: "The collector does not take everything",
        meaning: "Traces, logs or metrics are dropped; the work is not touched by it.",
        query: "select replica, host, state, version from lockgate.v_replicas where state = 'live'",
        action: "The log event `telemetry_not_taken` has the signal and the sort of the error, `lockgate_telemetry_exported_total` by `instance` who is concerned. Look at the collector. When it takes no metrics at all, only a scrape of `/metrics` shows this.",
        bad: (
            &[(
                "<lockgate.telemetry.exported>{lockgate_signal=\"traces\",lockgate_outcome=\"failed\"}",
                "0+1x60",
            )],
            &[("lockgate_signal", "traces")],
        ),
        good: &[(
            "<lockgate.telemetry.exported>{lockgate_signal=\"traces\",lockgate_outcome=\"taken\"}",
            "0+100x60",
        )],
    },
];

/// All of them.
pub fn all() -> impl Iterator<Item = &'static Alert> {
    let all = [FLEET, DELIVERY, CONSUMERS, WORK, TELEMETRY];
    all.into_iter().flatten()
}
