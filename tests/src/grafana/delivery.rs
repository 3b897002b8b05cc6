//! Dashboard: the way to Kafka, and what happens to what did not get there.

use super::panel::{Panel, lines, q, states, table};

/// From top to bottom.
pub const PANELS: &[Panel] = &[
    states("Breakers", "none", "0 closed, 1 half-open, 2 open, the worst of all replicas; the views show those that are not closed.")
        .red(1.0)
        .empty_when_well()
        .prom(&[q("max by (messaging_destination_name) (<lockgate.breaker.state>{J})", "{{messaging_destination_name}}")])
        .sql(&[q("select * from lockgate.v_breakers order by since", "")]),
    lines("Failed sends by reason", "ops", "Messages that Kafka did not acknowledge; the views show the stored ones.")
        .from_views("Undelivered messages by reason", "What is stored of messages that did not go, or are not to go yet, by state, reason and topic.")
        .rows()
        .empty_when_well()
        .prom(&[q("sum by (error_type) (rate(<messaging.client.sent.messages>{J,error_type!=\"\"}[$__rate_interval]))", "{{error_type}}")])
        .sql(&[q("select status, reason_code, topic, command_type, messages, oldest, newest from lockgate.v_undelivered_reasons order by messages desc limit 50", "")]),
    lines("Time to acknowledgement", "s", "From the first offer of a batch or page to its last outcome.")
        .prom(&[
            q("histogram_quantile(0.5, sum by (le, lockgate_path) (rate(<messaging.client.operation.duration>_bucket{J}[$__rate_interval])))", "p50 {{lockgate_path}}"),
            q("histogram_quantile(0.99, sum by (le, lockgate_path) (rate(<messaging.client.operation.duration>_bucket{J}[$__rate_interval])))", "p99 {{lockgate_path}}"),
        ]),
    lines("Undelivered messages", "none", "Due, being sent again, refused for good, given up; the views count no further than 10,000 each.")
        .rows()
        .prom(&[q("max by (lockgate_status) (<lockgate.undelivered.messages>{J})", "{{lockgate_status}}")])
        .sql(&[q("select status, messages, capped, oldest, oldest_age_s, waiting_s from lockgate.v_undelivered", "")]),
    lines("Oldest undelivered by state", "s", "How long the oldest of each has waited; of those that are due since it may go, or since it was stored if it was tried in vain.")
        .red(600.0)
        .prom(&[q("max by (lockgate_status) (<lockgate.undelivered.oldest.age>{J})", "{{lockgate_status}}")]),
    table("Due by topic", "none", "What redelivery has before it, and whether a breaker holds it back.")
        .empty_when_well()
        .sql(&[q("select topic, due, capped, first_due, overdue_s, breaker_open from lockgate.v_undelivered_topics order by overdue_s desc", "")]),
    lines("Redelivery", "ops", "Undelivered messages by what became of them.")
        .empty_when_well()
        .prom(&[q("sum by (lockgate_outcome) (rate(<lockgate.redelivery.messages>{J}[$__rate_interval]))", "{{lockgate_outcome}}")])
        .sql(&[q("T(redelivered_per_s, dead_per_s)", "")]),
    lines("Outbox", "ops", "Committed commands by what became of them; the views show what waits.")
        .from_views("What waits in the outbox", "Committed commands that are not sent yet, by lane and route, who sends the lane and what that one met.")
        .rows()
        .empty_when_well()
        .prom(&[q("sum by (lockgate_outcome) (rate(<lockgate.outbox.messages>{J}[$__rate_interval]))", "{{lockgate_outcome}}")])
        .sql(&[q("select lane, route, waiting, capped, oldest_age_s, holder, lease_until, last_error from lockgate.v_outbox_health order by oldest_age_s desc nulls last limit 50", "")]),
    lines("Oldest command of the outbox", "s", "How long the first that may go has waited.")
        .red(60.0)
        .prom(&[q("max(<lockgate.outbox.oldest.age>{J})", "oldest")]),
    lines("Direct commands", "ops", "Commands handed over without the database, by what became of them.")
        .empty_when_well()
        .prom(&[q("sum by (lockgate_outcome) (rate(<lockgate.direct.commands>{J}[$__rate_interval]))", "{{lockgate_outcome}}")])
        .sql(&[q("T(commands_delivered_per_s, commands_stored_per_s)", "")]),
    lines("Direct commands that wait", "none", "In the queue to Kafka, and in the queue to the store.")
        .empty_when_well()
        .prom(&[q("sum by (lockgate_queue) (<lockgate.direct.waiting>{J})", "{{lockgate_queue}}")]),
    lines("Window and client queue", "none", "Messages without an outcome yet, what may be so at most, and what librdkafka holds.")
        .from_views("Window of each replica", "Messages without an outcome at its last heartbeat, and what may be so at most; what librdkafka holds only metrics tell.")
        .rows()
        .prom(&[
            q("sum(<lockgate.window.used>{J})", "used"),
            q("sum(<lockgate.window.size>{J})", "size"),
            q("sum(<lockgate.kafka.queue.messages>{J})", "in the client"),
        ])
        .sql(&[q("select replica, window_used, window_size from lockgate.v_replicas where state in ('live', 'draining') order by 1", "")]),
    lines("Round trip to brokers, p99", "s", "The worst broker, as librdkafka measures it.")
        .prom(&[q("max(<lockgate.kafka.broker.rtt>{J,lockgate_quantile=\"p99\"})", "p99")]),
    lines("HTTP requests", "ops", "Requests of the HTTP API by status.")
        .prom(&[q("sum by (http_response_status_code) (rate(<http.server.request.duration>_count{J}[$__rate_interval]))", "{{http_response_status_code}}")]),
    lines("Duration of HTTP requests, p99", "s", "By route.")
        .prom(&[q("histogram_quantile(0.99, sum by (le, http_route) (rate(<http.server.request.duration>_bucket{J}[$__rate_interval])))", "{{http_route}}")]),
    lines("Consumers", "ops", "Messages of inboxes: new, seen before, set aside; the views show those set aside.")
        .from_views("What consumers put aside", "Records that consumers could do nothing with, of the newest 5,000, and why.")
        .rows()
        .empty_when_well()
        .prom(&[q("sum by (messaging_consumer_group_name, lockgate_outcome) (rate(<lockgate.inbox.messages>[$__rate_interval]))", "{{messaging_consumer_group_name}} {{lockgate_outcome}}")])
        .sql(&[q("select * from lockgate.v_inbox_dead order by newest desc limit 50", "")]),
    lines("Lag of consumers", "none", "Messages not settled of the partitions that a group's members hold, as each last looked.")
        .empty_when_well()
        .prom(&[q("sum by (messaging_consumer_group_name, messaging_destination_name) (<lockgate.consumer.lag>)", "{{messaging_consumer_group_name}} {{messaging_destination_name}}")]),
];
