//! The alert rules of consumers.

use super::alert::Alert;
use super::alert::Fires::Above;
use super::alert::Severity::Warning;

/// Those about what consumers of commands do with them.
pub(super) const CONSUMERS: &[Alert] = &[Alert {
    name: "LockgateInboxDead",
    severity: Warning,
    lasts: "0s",
    // A counter that is not told before it counts has risen from nothing when it is first seen, which is no increase to
    // Prometheus.
    expr: "sum by (job, messaging_consumer_group_name) (increase(<lockgate.inbox.messages>{lockgate_outcome=\"dead\"}[1h]) > 0 or (<lockgate.inbox.messages>{lockgate_outcome=\"dead\"} unless <lockgate.inbox.messages>{lockgate_outcome=\"dead\"} offset 1h))",
    fires: Above(0.0),
    or_absent: None,
    sql: Some(
        "select count(*) as value from lockgate.v_inbox_dead where newest > clock_timestamp() - interval '1 hour'",
    ),
    summary: "A consumer put messages aside within the last hour",
    meaning: "It can do nothing with them: their effect has not happened, such as an e-mail that was not sent. They lie in the table `inbox_dead` of its database as they were read, until `retention.inbox` is over; at 10,000 of them the consumer stands still.",
    query: "select consumer, topic, reason_code, records, newest from lockgate.v_inbox_dead order by newest desc limit 20",
    action: "The reason says whose mistake it is (docs/consumers.md, log event `records_put_aside`). Mend that, then send them again with the statement that stands there.",
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
}];
