#![allow(clippy::unwrap_used)]
use std::collections::HashMap;

use super::*;
use crate::config::{Config, Endpoint, OtlpHeaders};

fn read(variables: &[(&str, &str)]) -> Settings {
    read_with(variables, OtlpHeaders::default())
}

fn read_with(variables: &[(&str, &str)], headers: OtlpHeaders) -> Settings {
    let base = variables
        .iter()
        .find(|(name, _)| *name == "OTEL_EXPORTER_OTLP_ENDPOINT");
    let config = TelemetryConfig {
        otlp_endpoint: base.map(|(_, value)| Endpoint::new(*value)),
        headers,
        ..Config::default().telemetry
    };
    let variables: HashMap<String, String> = variables
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect();
    Settings::read(&config, &|name| variables.get(name).cloned())
}

const BASE: (&str, &str) = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector:4318/");

fn ignored(settings: &Settings) -> Vec<&str> {
    settings
        .ignored
        .iter()
        .map(|ignored| ignored.variable.as_str())
        .collect()
}

#[test]
fn without_an_endpoint_nothing_is_sent() {
    let settings = read(&[]);
    assert_eq!((settings.traces, settings.metrics, settings.logs), (None, None, None));
    assert_eq!((settings.share, settings.parent_decides), (Share::Auto, true));
    assert_eq!(settings.interval, Duration::from_secs(15));
    assert!(settings.ignored.is_empty());
}

#[test]
fn an_endpoint_of_all_gets_a_path_and_one_of_a_signal_is_taken_as_it_is() {
    let settings = read(&[BASE, ("OTEL_EXPORTER_OTLP_LOGS_ENDPOINT", "https://logs.example/take")]);
    assert_eq!(settings.traces.unwrap().url, "http://collector:4318/v1/traces");
    assert_eq!(settings.metrics.unwrap().url, "http://collector:4318/v1/metrics");
    assert_eq!(settings.logs.unwrap().url, "https://logs.example/take");
    let one = read(&[(
        "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT",
        "http://prometheus:9090/api/v1/otlp/v1/metrics",
    )]);
    assert!(one.traces.is_none() && one.logs.is_none() && one.metrics.is_some());
}

#[test]
fn an_endpoint_that_is_none_is_said_without_its_value() {
    let settings = read(&[("OTEL_EXPORTER_OTLP_ENDPOINT", "collector:4318 user:hunter2")]);
    assert!(settings.traces.is_none() && settings.metrics.is_none() && settings.logs.is_none());
    assert_eq!(ignored(&settings), ["OTEL_EXPORTER_OTLP_ENDPOINT"]);
    assert!(!format!("{:?}", settings.ignored).contains("hunter2"));
}

#[test]
fn a_login_in_an_endpoint_is_said_to_be_of_no_use_without_being_told() {
    let settings = read(&[
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "https://tenant:hunter2@collector:4318"),
        ("OTEL_EXPORTER_OTLP_LOGS_ENDPOINT", "https://hunter2@logs.example/take"),
    ]);
    assert!(settings.traces.is_some() && settings.metrics.is_some() && settings.logs.is_some());
    assert_eq!(
        ignored(&settings),
        ["OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_LOGS_ENDPOINT"]
    );
    let said = format!("{:?}", settings.ignored);
    assert!(
        said.contains("OTEL_EXPORTER_OTLP_HEADERS") && !said.contains("hunter2"),
        "{said}"
    );
}

#[test]
fn exporters_are_switched_off_one_by_one_and_all_together() {
    let off = read(&[
        BASE,
        ("OTEL_TRACES_EXPORTER", "none"),
        ("OTEL_METRICS_EXPORTER", "prometheus"),
    ]);
    assert!(off.traces.is_none() && off.metrics.is_none() && off.logs.is_some() && off.ignored.is_empty());
    let console = read(&[
        BASE,
        ("OTEL_TRACES_EXPORTER", "console"),
        ("OTEL_LOGS_EXPORTER", "otlp,console"),
    ]);
    assert!(console.traces.is_none() && console.logs.is_some());
    assert_eq!(ignored(&console), ["OTEL_TRACES_EXPORTER", "OTEL_LOGS_EXPORTER"]);
    let disabled = read(&[BASE, ("OTEL_SDK_DISABLED", "TRUE")]);
    assert!(disabled.traces.is_none() && disabled.metrics.is_none() && disabled.logs.is_none());
}

#[test]
fn times_are_milliseconds_and_those_of_a_signal_are_stronger() {
    let settings = read(&[
        BASE,
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "3000"),
        ("OTEL_EXPORTER_OTLP_LOGS_TIMEOUT", "500"),
        ("OTEL_METRIC_EXPORT_INTERVAL", "700"),
    ]);
    assert_eq!(settings.traces.unwrap().timeout, Duration::from_secs(3));
    assert_eq!(settings.logs.unwrap().timeout, Duration::from_millis(500));
    assert_eq!(settings.interval, Duration::from_millis(700));
    let wrong = read(&[
        BASE,
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "3s"),
        ("OTEL_METRIC_EXPORT_INTERVAL", "0"),
    ]);
    assert_eq!(wrong.traces.as_ref().unwrap().timeout, TIMEOUT);
    assert_eq!(wrong.interval, Duration::from_secs(15));
    assert_eq!(
        ignored(&wrong),
        ["OTEL_METRIC_EXPORT_INTERVAL", "OTEL_EXPORTER_OTLP_TIMEOUT"]
    );
}

#[test]
fn another_protocol_is_said_and_ours_is_sent() {
    let settings = read(&[BASE, ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")]);
    assert!(settings.traces.is_some());
    assert_eq!(ignored(&settings), ["OTEL_EXPORTER_OTLP_PROTOCOL"]);
    assert!(settings.ignored[0].reason.contains("4318"));
    let own = read(&[BASE, ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf")]);
    assert!(own.ignored.is_empty());
}

#[test]
fn certificates_are_those_of_the_signal_or_of_all() {
    let settings = read(&[
        BASE,
        ("OTEL_EXPORTER_OTLP_CERTIFICATE", "/ca.pem"),
        ("OTEL_EXPORTER_OTLP_TRACES_CERTIFICATE", "/traces.pem"),
        ("OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE", "/own.pem"),
        ("OTEL_EXPORTER_OTLP_CLIENT_KEY", "/own.key"),
    ]);
    let tls = settings.traces.unwrap().tls;
    assert_eq!(tls.authority, Some("/traces.pem".into()));
    assert_eq!(
        (tls.certificate, tls.key),
        (Some("/own.pem".into()), Some("/own.key".into()))
    );
    assert_eq!(settings.logs.unwrap().tls.authority, Some("/ca.pem".into()));
}

/// What a collector is told beside, as far as it is ours to say.
fn told(target: Option<&Target>) -> Option<Vec<String>> {
    let headers = target.unwrap().headers.as_ref()?;
    let text = |(name, value): &Header| format!("{name}={}", value.to_str().unwrap());
    Some(headers.iter().map(text).collect())
}

#[test]
fn headers_of_a_signal_are_all_that_it_has_be_they_in_a_file_or_not() {
    let all = "OTEL_EXPORTER_OTLP_HEADERS";
    let in_file = |variable| {
        let mut headers = OtlpHeaders::default();
        headers.take(variable, "x-key=hunter2").unwrap();
        headers
    };
    let ours = Some(vec!["x-key=hunter2".to_owned()]);
    let none = read(&[BASE, (all, "x-key=variable")]);
    assert_eq!(told(none.traces.as_ref()), None);
    let own = read_with(&[BASE, ("OTEL_EXPORTER_OTLP_TRACES_HEADERS", "a=b")], in_file(all));
    assert_eq!(told(own.traces.as_ref()), None, "the SDK sends them");
    assert_eq!(told(own.metrics.as_ref()), ours);
    assert_eq!(told(own.logs.as_ref()), ours);
    assert!(!format!("{own:?}").contains("hunter2"));
    let of_logs = in_file("OTEL_EXPORTER_OTLP_LOGS_HEADERS");
    let own = read_with(&[BASE, (all, "a=b")], of_logs);
    assert_eq!(told(own.logs.as_ref()), ours);
    assert_eq!(told(own.metrics.as_ref()), None);
    let empty = read_with(&[BASE, ("OTEL_EXPORTER_OTLP_TRACES_HEADERS", " ")], in_file(all));
    assert_eq!(told(empty.traces.as_ref()), ours);
}

#[test]
fn samplers_have_their_standard_names() {
    for (sampler, argument, share, parent_decides) in [
        ("always_on", "", Share::Of(1.0), false),
        ("always_off", "", Share::Of(0.0), false),
        ("traceidratio", "0.25", Share::Of(0.25), false),
        ("parentbased_always_on", "", Share::Of(1.0), true),
        ("parentbased_always_off", "", Share::Of(0.0), true),
        ("parentbased_traceidratio", "0.5", Share::Of(0.5), true),
        ("parentbased_traceidratio", "", Share::Of(1.0), true),
    ] {
        let settings = read(&[("OTEL_TRACES_SAMPLER", sampler), ("OTEL_TRACES_SAMPLER_ARG", argument)]);
        assert_eq!(
            (settings.share, settings.parent_decides),
            (share, parent_decides),
            "{sampler}"
        );
        assert!(settings.ignored.is_empty());
    }
    let jaeger = read(&[("OTEL_TRACES_SAMPLER", "jaeger_remote")]);
    assert_eq!(
        (jaeger.share, ignored(&jaeger)),
        (Share::Auto, vec!["OTEL_TRACES_SAMPLER"])
    );
    let wrong = read(&[
        ("OTEL_TRACES_SAMPLER", "traceidratio"),
        ("OTEL_TRACES_SAMPLER_ARG", "7"),
    ]);
    assert_eq!(
        (wrong.share, ignored(&wrong)),
        (Share::Of(1.0), vec!["OTEL_TRACES_SAMPLER_ARG"])
    );
}

#[test]
fn only_the_context_of_w3c_is_carried_on() {
    assert!(read(&[("OTEL_PROPAGATORS", "tracecontext")]).ignored.is_empty());
    assert_eq!(
        ignored(&read(&[("OTEL_PROPAGATORS", "tracecontext,baggage")])),
        ["OTEL_PROPAGATORS"]
    );
}

#[test]
fn what_a_span_may_hold_is_said_for_all_and_for_each() {
    assert_eq!(read(&[]).limits, Limits::default());
    let limits = read(&[
        ("OTEL_ATTRIBUTE_COUNT_LIMIT", "7"),
        ("OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT", "9"),
        ("OTEL_LINK_ATTRIBUTE_COUNT_LIMIT", "0"),
        ("OTEL_SPAN_EVENT_COUNT_LIMIT", "3"),
        ("OTEL_SPAN_LINK_COUNT_LIMIT", "2"),
        ("OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT", "30"),
    ]);
    let expected = Limits {
        value_length: Some(30),
        attributes: 9,
        events: 3,
        links: 2,
        event_attributes: 7,
        link_attributes: 0,
    };
    assert_eq!((limits.limits, limits.ignored.len()), (expected, 0));
    let own = read(&[
        ("OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT", "many"),
        ("OTEL_SPAN_ATTRIBUTE_VALUE_LENGTH_LIMIT", "5"),
    ]);
    assert_eq!(own.limits.value_length, Some(5));
    assert_eq!(ignored(&own), ["OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT"]);
}

#[test]
fn what_is_not_heeded_and_what_the_sdk_would_not_understand_is_said() {
    for variable in [
        "OTEL_BSP_EXPORT_TIMEOUT",
        "OTEL_BLRP_EXPORT_TIMEOUT",
        "OTEL_METRIC_EXPORT_TIMEOUT",
        "OTEL_EXPORTER_OTLP_METRICS_DEFAULT_HISTOGRAM_AGGREGATION",
        "OTEL_METRICS_EXEMPLAR_FILTER",
        "OTEL_LOGRECORD_ATTRIBUTE_COUNT_LIMIT",
        "OTEL_LOGRECORD_ATTRIBUTE_VALUE_LENGTH_LIMIT",
        "OTEL_CONFIG_FILE",
    ] {
        assert_eq!(ignored(&read(&[(variable, "1")])), [variable]);
    }
    for (variable, wrong, right) in [
        ("OTEL_BSP_SCHEDULE_DELAY", "5s", "5000"),
        ("OTEL_BSP_MAX_QUEUE_SIZE", "many", "4096"),
        ("OTEL_BLRP_MAX_EXPORT_BATCH_SIZE", "-1", "512"),
        ("OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE", "deltas", "Delta"),
    ] {
        assert_eq!(ignored(&read(&[(variable, wrong)])), [variable]);
        assert!(ignored(&read(&[(variable, right)])).is_empty(), "{variable}");
    }
}
