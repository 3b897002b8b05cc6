#![allow(clippy::unwrap_used, clippy::panic)]
use opentelemetry::metrics::MeterProvider as _;
use opentelemetry_sdk::metrics::SdkMeterProvider;
use prometheus::{Registry, TextEncoder};

use super::*;
use crate::telemetry::spanned::scope;

struct Told {
    meters: Meters,
    registry: Registry,
    _provider: SdkMeterProvider,
}

impl Told {
    fn new() -> Self {
        let registry = Registry::new();
        let reader = opentelemetry_prometheus::exporter().with_registry(registry.clone());
        let reader = reader.scope_info_enabled(false).build().unwrap();
        let provider = SdkMeterProvider::builder().with_reader(reader).build();
        Self {
            meters: Meters::on(&provider.meter_with_scope(scope())),
            registry,
            _provider: provider,
        }
    }

    fn text(&self) -> String {
        TextEncoder::new().encode_to_string(&self.registry.gather()).unwrap()
    }

    fn says(&self, line: &str) {
        let text = self.text();
        assert!(text.lines().any(|own| own == line), "{line} is not in\n{text}");
    }

    fn says_nothing_of(&self, name: &str) {
        let text = self.text();
        assert!(!text.lines().any(|own| own.starts_with(name)), "{name} is in\n{text}");
    }
}

#[test]
fn what_happens_to_a_workflow_is_counted_once_for_both_who_ask() {
    let told = Told::new();
    let workflow = told.meters.workflow("mails");
    workflow.items(ItemEnd::Delivered, 998);
    workflow.items(ItemEnd::Refused, 2);
    workflow.items(ItemEnd::Unknown, 0);
    told.meters.workflow("mails").items(ItemEnd::Delivered, 2);
    told.meters.workflow("reports").items(ItemEnd::Delivered, 1);
    workflow.batch_ended(BatchEnd::Finished, Duration::from_millis(30));
    for _ in 0..2 {
        told.says("lockgate_items_total{lockgate_outcome=\"delivered\",lockgate_workflow=\"mails\"} 1000");
        told.says("lockgate_items_total{lockgate_outcome=\"refused\",lockgate_workflow=\"mails\"} 2");
        told.says("lockgate_batch_duration_seconds_count{lockgate_end=\"finished\",lockgate_workflow=\"mails\"} 1");
    }
    let never = "lockgate_outcome=\"unknown\"";
    assert!(!told.text().contains(never), "what never happened is not told");
    assert_eq!(told.meters.total(&c::ITEMS_DONE, Some("delivered")), 1001);
    told.meters.workflow("delivered").items(ItemEnd::Refused, 5);
    assert_eq!(
        told.meters.total(&c::ITEMS_DONE, Some("delivered")),
        1001,
        "a workflow may be called so"
    );
    assert_eq!(told.meters.total(&c::ITEMS_DONE, None), 1008);
}

#[test]
fn attributes_without_a_value_are_left_out() {
    let told = Told::new();
    told.meters.sent("mails", SendPath::FanOut, 5);
    told.meters.not_sent("mails", SendPath::FanOut, SendError::TimedOut, 1);
    let same = "lockgate_path=\"fan_out\",messaging_destination_name=\"mails\",messaging_operation_name=\"send\",messaging_system=\"kafka\"";
    told.says(&format!("messaging_client_sent_messages_total{{{same}}} 5"));
    told.says(&format!(
        "messaging_client_sent_messages_total{{error_type=\"timed_out\",{same}}} 1"
    ));
}

#[test]
fn what_is_watched_is_read_each_time_and_put_together() {
    let told = Told::new();
    let first = told.meters.watch(&c::KAFKA_OUTSTANDING, &[], || Some(3.0));
    let second = told.meters.watch(&c::KAFKA_OUTSTANDING, &[], || Some(4.0));
    let open = told.meters.watch(&c::BREAKER_STATE, &["mails"], || Some(2.0));
    let closed = told.meters.watch(&c::BREAKER_STATE, &["mails"], || Some(0.0));
    let absent = told.meters.watch(&c::LEADER_TERM, &[], || None);
    let broken = told.meters.watch(&c::KAFKA_THROTTLE, &[], || panic!("in a callback"));
    told.says("lockgate_kafka_outstanding 7");
    told.says("lockgate_breaker_state{messaging_destination_name=\"mails\"} 2");
    told.says_nothing_of("lockgate_leader_term");
    told.says_nothing_of("lockgate_kafka_throttle");
    drop((second, open));
    told.says("lockgate_kafka_outstanding 3");
    told.says("lockgate_breaker_state{messaging_destination_name=\"mails\"} 0");
    drop((first, closed, absent, broken));
    told.says_nothing_of("lockgate_kafka_outstanding");
}

#[test]
fn totals_that_are_counted_elsewhere_count_too() {
    let told = Told::new();
    let watching = told.meters.watch(&c::DIRECT_COMMANDS, &["delivered"], || Some(12.0));
    let _other = told.meters.watch(&c::DIRECT_COMMANDS, &["accepted"], || Some(20.0));
    let delivered = |count: u64| {
        told.says(&format!(
            "lockgate_direct_commands_total{{lockgate_outcome=\"delivered\"}} {count}"
        ));
        assert_eq!(told.meters.total(&c::DIRECT_COMMANDS, Some("delivered")), count);
    };
    delivered(12);
    drop(watching);
    // The last export comes after what is stopped: it tells what was counted until then.
    delivered(12);
    let again = told.meters.watch(&c::DIRECT_COMMANDS, &["delivered"], || Some(5.0));
    delivered(17);
    drop(again);
    delivered(17);
}

#[test]
fn queues_beyond_the_bound_share_their_sum_and_the_oldest_of_them() {
    let told = Told::new();
    let queues: Vec<String> = (0..70).map(|number| format!("q{number:02}")).collect();
    let aged = |queue: &str| if queue == "q65" { 900.0 } else { 1.0 };
    let of = |queue| {
        [
            (&c::QUEUE_OLDEST_READY, vec![queue], aged(queue)),
            (&c::QUEUE_READY, vec![queue], 2.0),
        ]
    };
    let measured: Vec<(&'static MetricDef, Vec<&str>, f64)> = queues.iter().flat_map(|queue| of(queue)).collect();
    told.meters.fleet_measured(&measured);
    told.says("lockgate_queue_oldest_ready_age_seconds{lockgate_queue=\"q63\"} 1");
    told.says("lockgate_queue_oldest_ready_age_seconds{lockgate_queue=\"_other\"} 900");
    told.says("lockgate_queue_ready{lockgate_queue=\"_other\"} 12");
}

#[test]
fn the_leader_tells_of_the_fleet_as_long_as_it_leads() {
    let told = Told::new();
    told.meters.fleet_measured(&[
        (&c::QUEUE_READY, vec!["mails"], 7.0),
        (&c::QUEUE_READY, vec!["reports"], 0.0),
        (&c::STUCK, vec!["run_lease"], 1.0),
    ]);
    told.says("lockgate_queue_ready{lockgate_queue=\"mails\"} 7");
    told.says("lockgate_stuck{lockgate_kind=\"run_lease\"} 1");
    told.meters.fleet_measured(&[(&c::QUEUE_READY, vec!["reports"], 2.0)]);
    told.says("lockgate_queue_ready{lockgate_queue=\"reports\"} 2");
    assert!(!told.text().contains("mails"), "a queue that is gone is told no more");
    told.meters.fleet_forgotten();
    told.says_nothing_of("lockgate_queue_ready");
}

#[test]
fn a_value_is_told_from_when_it_is_set_until_there_is_none() {
    let told = Told::new();
    let term = told.meters.value(&c::LEADER_TERM, &[]);
    told.says_nothing_of("lockgate_leader_term");
    term.set(4.0);
    told.says("lockgate_leader_term 4");
    term.set(f64::NAN);
    told.says_nothing_of("lockgate_leader_term");
}

#[test]
fn requests_are_active_while_they_are_answered() {
    let told = Told::new();
    told.says_nothing_of("http_server_active_requests");
    let begin = || told.meters.request_begins(Method::Get);
    let (one, two) = (begin(), begin());
    let active = |count: u8| {
        let get = "http_request_method=\"GET\",url_scheme=\"http\"";
        told.says(&format!("http_server_active_requests{{{get}}} {count}"));
    };
    active(2);
    drop(one);
    active(1);
    drop(two);
    active(0);
    let answered = |method: &str, route, status, error| {
        told.meters
            .request(Method::of(method), route, status, error, Duration::ZERO);
    };
    answered("PROPFIND", "", 404, "");
    answered("GET", "/api/v1/runs", 500, "server_error");
    let count = "http_server_request_duration_seconds_count";
    told.says(&format!(
        "{count}{{http_request_method=\"_OTHER\",http_response_status_code=\"404\",url_scheme=\"http\"}} 1"
    ));
    told.says(&format!(
        "{count}{{error_type=\"server_error\",http_request_method=\"GET\",http_response_status_code=\"500\",http_route=\"/api/v1/runs\",url_scheme=\"http\"}} 1"
    ));
}

#[test]
fn workflows_beyond_the_bound_share_their_counts() {
    let told = Told::new();
    for number in 0..70 {
        told.meters.workflow(&format!("w{number}")).run_claimed(Suspect::No);
    }
    told.says("lockgate_runs_claimed_total{lockgate_suspect=\"no\",lockgate_workflow=\"w0\"} 1");
    told.says("lockgate_runs_claimed_total{lockgate_suspect=\"no\",lockgate_workflow=\"_other\"} 11");
}

#[test]
fn of_too_many_workflows_those_have_names_that_something_happens_to() {
    let told = Told::new();
    let all: Vec<String> = (0..70).map(|number| format!("w{number}")).collect();
    told.meters.has_code_of(&all);
    told.meters.workflow("w69").run_claimed(Suspect::No);
    told.says("lockgate_runs_claimed_total{lockgate_suspect=\"no\",lockgate_workflow=\"w69\"} 1");
}

#[test]
fn the_first_of_a_trouble_is_one_more_than_none() {
    let told = Told::new();
    told.meters.holds_leases(&[LeaseKind::Batch]);
    told.meters.is_candidate();
    told.meters.has_code_of(&["mails".to_owned()]);
    told.says("lockgate_leases_lost_total{lockgate_kind=\"batch\"} 0");
    told.says("lockgate_leader_elections_total{lockgate_end=\"lost\"} 0");
    told.says("lockgate_runs_ended_total{lockgate_outcome=\"failed\",lockgate_workflow=\"mails\"} 0");
    told.says("lockgate_items_total{lockgate_outcome=\"refused\",lockgate_workflow=\"mails\"} 0");
    told.meters.leases_lost(LeaseKind::Batch, 16);
    told.says("lockgate_leases_lost_total{lockgate_kind=\"batch\"} 16");
}
