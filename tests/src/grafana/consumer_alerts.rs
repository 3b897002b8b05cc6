//! The alert rules of consumers.

use super::alert::Alert;
use super::alert::Fires::Above;
use super::alert::Severity::{Critical, Warning};

/// Those about what consumers of commands do with them.
pub(super) const CONSUMERS: &[Alert] = &[
    Alert {
        name: "LockgateInboxDead",
        severity: Warning,
        lasts: "0s",
        expr: "sum by (job, messaging_consumer_group_name) (risen(<lockgate.inbox.messages>{lockgate_outcome=\"dead\"}; 1h))",
        fires: Above(0.0),
        or_absent: None,
        sql: Some(
            "select count(*) as value from lockgate.v_inbox_dead where newest > clock_timestamp() - interval '1 hour'",
        ),
        summary: "A consumer put messages aside within the last hour",
        meaning: "It can do nothing with them: their effect has not happened, such as an e-mail that was not sent. They lie in the table `inbox_dead` of its database as they were read, until `retention.inbox` is over; at 10,000 of them the consumer stands still.",
        query: "select consumer, topic, reason_code, records, newest from lockgate.v_inbox_dead order by newest desc limit 20",
        action: "The query asks Lockgate's own database; ask a consumer's where it has one. The reason says whose mistake it is (docs/consumers.md, log event `records_put_aside`). Mend that. Then, in Lockgate's own, send them again with the statement that stands there, as `lockgate_owner`: log in as `lockgate_migrator` and `set role lockgate_owner`. Of a consumer's own, give their bytes to the producer.",
        bad: (
            &[(
                "<lockgate.inbox.messages>{messaging_consumer_group_name=\"mails\",lockgate_outcome=\"dead\"}",
                "_x20 1+0x40",
            )],
            &[("messaging_consumer_group_name", "mails")],
        ),
        good: &[
            (
                "<lockgate.inbox.messages>{messaging_consumer_group_name=\"mails\",lockgate_outcome=\"new\"}",
                "0+100x40",
            ),
            (
                "<lockgate.inbox.messages>{messaging_consumer_group_name=\"mails\",lockgate_outcome=\"dead\"}",
                "0+0x40",
            ),
        ],
    },
    Alert {
        name: "LockgateConsumerStands",
        severity: Critical,
        lasts: "5m",
        // Each member by itself: those that do their work would hide one that stands. Copies count as taken. One that has taken
        // nothing since it began tells no count of that at all; members that hold no partition tell no lag. In its own
        // parentheses, since the comparison would bind to what follows `unless` alone.
        expr: "(sum by (job, instance, messaging_consumer_group_name) (<lockgate.consumer.lag>) unless sum by (job, instance, messaging_consumer_group_name) (increase(<lockgate.inbox.messages>[5m])) > 0)",
        fires: Above(0.0),
        or_absent: None,
        sql: None,
        summary: "A consumer has messages before it and takes none",
        meaning: "It is a member of a group and holds partitions; nothing of them has had its effect for ten minutes, such as e-mails that are not made. Nothing is lost while the topic keeps it. Its database refuses or does not answer, 10,000 of its messages are dead, or its brokers do not give what they have.",
        query: "select consumer, topic, reason_code, records, newest from lockgate.v_inbox_dead order by newest desc limit 20",
        action: "Where others of its group go on, restart this one, and they take its partitions over: by a scrape `instance` is its address, by OTLP `host_name` of the series `target_info` with that `instance` is its machine or pod. At 10,000 dead records of a consumer, mend what the reason says, send them again as LockgateInboxDead says, or delete them from `inbox_dead` by the same role, and it goes on by itself. Else the log event `page_not_settled` has the error of its database, `records_unreadable` that of the brokers. The query asks Lockgate's own database; ask a consumer's where it has one.",
        bad: (
            &[
                (
                    "<lockgate.consumer.lag>{messaging_consumer_group_name=\"mails\",instance=\"a\"}",
                    "5+0x40",
                ),
                (
                    "<lockgate.inbox.messages>{messaging_consumer_group_name=\"mails\",lockgate_outcome=\"new\",instance=\"a\"}",
                    "100+0x40",
                ),
                (
                    "<lockgate.consumer.lag>{messaging_consumer_group_name=\"mails\",instance=\"b\"}",
                    "5+0x40",
                ),
                (
                    "<lockgate.inbox.messages>{messaging_consumer_group_name=\"mails\",lockgate_outcome=\"new\",instance=\"b\"}",
                    "100+9x40",
                ),
                (
                    "<lockgate.consumer.lag>{messaging_consumer_group_name=\"idle\"}",
                    "0+0x40",
                ),
            ],
            &[("messaging_consumer_group_name", "mails"), ("instance", "a")],
        ),
        good: &[
            (
                "<lockgate.consumer.lag>{messaging_consumer_group_name=\"mails\"}",
                "5+9x40",
            ),
            (
                "<lockgate.inbox.messages>{messaging_consumer_group_name=\"mails\",lockgate_outcome=\"repeated\"}",
                "0+1x40",
            ),
            (
                "<lockgate.consumer.lag>{messaging_consumer_group_name=\"idle\"}",
                "0+0x40",
            ),
        ],
    },
    Alert {
        name: "LockgateNoConsumer",
        severity: Critical,
        lasts: "5m",
        // Only what was heard of within a day can be missed.
        expr: "(count by (job, messaging_consumer_group_name) (present_over_time(<lockgate.consumer.lag>[1d])) unless count by (job, messaging_consumer_group_name) (<lockgate.consumer.lag>))",
        fires: Above(0.0),
        or_absent: None,
        sql: None,
        summary: "Nobody of a group of consumers holds a partition any more",
        meaning: "One was there within the last day and none is heard now: its processes are gone, cannot join their group, or the way from them to Prometheus is broken. What is sent to it waits in its topic, as long as that keeps it. After a day of silence this ends by itself, mended or not. By OTLP the last word of a process that died stands for five minutes, and this comes as much later.",
        query: "select consumer, topic, reason_code, records, newest from lockgate.v_inbox_dead order by newest desc limit 20",
        action: "Ask the process manager why none runs, and its log; whether brokers take it into its group (log event `rebalance_failed`). It also comes where statistics.interval.ms is 0 in the properties of its Kafka client, or a telemetry name (`OTEL_SERVICE_NAME`) or a group was changed, or a consumer was retired on purpose: silence it for that group and a day.",
        bad: (
            &[(
                "<lockgate.consumer.lag>{messaging_consumer_group_name=\"mails\"}",
                "3+0x10 _x30",
            )],
            &[("messaging_consumer_group_name", "mails")],
        ),
        // One member goes, another is there.
        good: &[
            (
                "<lockgate.consumer.lag>{messaging_consumer_group_name=\"mails\",messaging_destination_name=\"a\"}",
                "3+0x10 _x30",
            ),
            (
                "<lockgate.consumer.lag>{messaging_consumer_group_name=\"mails\",messaging_destination_name=\"b\"}",
                "0+0x40",
            ),
        ],
    },
    Alert {
        name: "LockgateMailsFailing",
        severity: Warning,
        lasts: "10m",
        // A share, as an address that is not there is nobody's trouble; and for longer than one failure is seen in it.
        expr: "sum by (job) (increase(<lockgate.mails>{lockgate_outcome=~\"failed|barred\"}[10m])) / sum by (job) (increase(<lockgate.mails>[10m]))",
        fires: Above(0.1),
        or_absent: None,
        sql: None,
        summary: "The mail server takes fewer than nine of ten e-mails",
        meaning: "Barred: it lets `email-sender` not in or wants another login or sender; all e-mails wait, and none is lost. Failed: it refused an e-mail for good, which is not tried again. E-mails that it puts off for longer than `EMAIL_GIVE_UP` fail too and are not counted here: look for the log event `mail_failed`.",
        query: "select consumer, topic, reason_code, records, newest from lockgate.v_inbox_dead order by newest desc limit 20",
        action: "The query only shows what no e-mail was made of; no view has e-mails. What the server says to all is in the log event `mail_server_bars`; `email-sender requeue --dry-run`, where email-sender runs, counts those that failed by what it said. Mend login, address or server (docs/consumers.md); those that wait go by themselves, failed ones with `email-sender requeue --error TEXT --reason TEXT`.",
        bad: (
            &[
                ("<lockgate.mails>{lockgate_outcome=\"sent\"}", "900+0x40"),
                ("<lockgate.mails>{lockgate_outcome=\"barred\"}", "0+1x40"),
            ],
            &[],
        ),
        good: &[
            ("<lockgate.mails>{lockgate_outcome=\"sent\"}", "0+100x40"),
            ("<lockgate.mails>{lockgate_outcome=\"failed\"}", "0+1x40"),
        ],
    },
];
