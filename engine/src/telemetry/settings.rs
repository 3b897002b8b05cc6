//! What is exported where, from the configuration and the standard variables. Pure; a wrong value stops nobody, it is said.

use std::path::PathBuf;
use std::time::Duration;

use hyper::Uri;

use super::closed::{Closed as _, Signal};
use super::limits::Limits;
use super::sampling::Share;
use crate::config::{Header, TelemetryConfig};

/// How long a collector may take for one export when nobody says.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Of a URL with a user and password.
const NO_LOGIN: &str = "user and password in it are not sent: put an authorization into OTEL_EXPORTER_OTLP_HEADERS";

/// What is exported where.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Settings {
    pub(super) traces: Option<Target>,
    pub(super) metrics: Option<Target>,
    pub(super) logs: Option<Target>,
    pub(super) share: Share,
    /// Whoever started a trace decides whether it is recorded.
    pub(super) parent_decides: bool,
    /// What a span may hold.
    pub(super) limits: Limits,
    /// Between two exports of metrics.
    pub(super) interval: Duration,
    /// What was not understood.
    pub(super) ignored: Vec<Ignored>,
}

/// A collector.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Target {
    pub(super) url: String,
    pub(super) timeout: Duration,
    /// All that it is told beside; none: those that the SDK has found.
    pub(super) headers: Option<Vec<Header>>,
    pub(super) tls: Tls,
}

/// What the connection to it is secured by, beside what the system trusts.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub(super) struct Tls {
    /// The only authority that is trusted.
    pub(super) authority: Option<PathBuf>,
    pub(super) certificate: Option<PathBuf>,
    pub(super) key: Option<PathBuf>,
}

/// A variable or key whose value is not used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Ignored {
    pub(super) variable: String,
    pub(super) reason: &'static str,
}

/// Reads a variable of the environment.
type Env<'a> = &'a dyn Fn(&str) -> Option<String>;

struct Reading<'a> {
    config: &'a TelemetryConfig,
    env: Env<'a>,
    ignored: Vec<Ignored>,
}

impl Settings {
    /// Reads them. A variable that is empty is not set.
    pub(super) fn read(config: &TelemetryConfig, env: Env) -> Self {
        let mut reading = Reading {
            config,
            env,
            ignored: Vec::new(),
        };
        let (share, parent_decides) = reading.sampler();
        let interval = reading.milliseconds("OTEL_METRIC_EXPORT_INTERVAL");
        reading.propagators();
        reading.others();
        Self {
            traces: reading.target(Signal::Traces),
            metrics: reading.target(Signal::Metrics),
            logs: reading.target(Signal::Logs),
            share,
            parent_decides,
            limits: reading.limits(),
            interval: interval.unwrap_or(config.interval),
            ignored: reading.ignored,
        }
    }
}

impl Reading<'_> {
    fn value(&self, variable: &str) -> Option<String> {
        (self.env)(variable)
            .map(|value| value.trim().to_owned())
            .filter(|value| !value.is_empty())
    }

    fn ignore(&mut self, variable: impl Into<String>, reason: &'static str) {
        let variable = variable.into();
        if self.ignored.iter().all(|known| known.variable != variable) {
            self.ignored.push(Ignored { variable, reason });
        }
    }

    /// The variable of a signal, else that of all of them, with its value.
    fn of_signal(&self, signal: Signal, what: &str) -> Option<(String, String)> {
        names(signal, what).into_iter().find_map(|name| {
            let value = self.value(&name)?;
            Some((name, value))
        })
    }

    /// Those of a file, unless the signal has a variable of its own, which the SDK reads: its own are all that it has.
    fn headers(&self, signal: Signal) -> Option<Vec<Header>> {
        let is_set = |name: &String| self.config.headers.of(name).is_some() || self.value(name).is_some();
        let name = names(signal, "HEADERS").into_iter().find(is_set)?;
        self.config.headers.of(&name).map(<[Header]>::to_vec)
    }

    fn milliseconds(&mut self, variable: &str) -> Option<Duration> {
        let value = self.value(variable)?;
        match value.parse() {
            Ok(milliseconds @ 1..) => Some(Duration::from_millis(milliseconds)),
            _ => {
                self.ignore(variable, "not a number of milliseconds");
                None
            }
        }
    }

    fn target(&mut self, signal: Signal) -> Option<Target> {
        if self.is_disabled() || !self.is_exported(signal) {
            return None;
        }
        let url = self.url(signal)?;
        self.check_protocol(signal);
        let timeout = self.of_signal(signal, "TIMEOUT");
        let timeout = timeout.and_then(|(name, _)| self.milliseconds(&name));
        let path = |what| self.of_signal(signal, what).map(|(_, value)| PathBuf::from(value));
        Some(Target {
            tls: Tls {
                authority: path("CERTIFICATE"),
                certificate: path("CLIENT_CERTIFICATE"),
                key: path("CLIENT_KEY"),
            },
            headers: self.headers(signal),
            url,
            timeout: timeout.unwrap_or(TIMEOUT),
        })
    }

    fn is_disabled(&self) -> bool {
        self.value("OTEL_SDK_DISABLED")
            .is_some_and(|value| value.eq_ignore_ascii_case("true"))
    }

    fn is_exported(&mut self, signal: Signal) -> bool {
        let variable = format!("OTEL_{}_EXPORTER", signal.text().to_uppercase());
        let Some(value) = self.value(&variable) else {
            return true;
        };
        let mut exported = false;
        for exporter in value.split(',').map(str::trim) {
            match exporter {
                "otlp" => exported = true,
                "none" => {}
                // What is scraped is told at health.listen in any case.
                "prometheus" if signal == Signal::Metrics => {}
                "console" | "logging" => self.ignore(&variable, "logs go to stderr, nothing else does"),
                _ => self.ignore(&variable, "expected otlp or none"),
            }
        }
        exported
    }

    fn url(&mut self, signal: Signal) -> Option<String> {
        let own = format!("OTEL_EXPORTER_OTLP_{}_ENDPOINT", signal.text().to_uppercase());
        let (variable, url) = match (self.value(&own), self.config.otlp_endpoint.as_ref()) {
            (Some(url), _) => (own, url),
            (None, Some(base)) => {
                let url = format!("{}/v1/{}", base.expose().trim_end_matches('/'), signal.text());
                ("OTEL_EXPORTER_OTLP_ENDPOINT".to_owned(), url)
            }
            (None, None) => return None,
        };
        match url.parse::<Uri>() {
            Ok(parsed) if matches!(parsed.scheme_str(), Some("http" | "https")) && parsed.host().is_some() => {
                if parsed
                    .authority()
                    .is_some_and(|authority| authority.as_str().contains('@'))
                {
                    self.ignore(variable, NO_LOGIN);
                }
                Some(url)
            }
            _ => {
                self.ignore(variable, "not a URL such as http://collector:4318");
                None
            }
        }
    }

    fn check_protocol(&mut self, signal: Signal) {
        match self.of_signal(signal, "PROTOCOL") {
            Some((variable, protocol)) if protocol != "http/protobuf" => {
                let reason = "only http/protobuf is spoken, which collectors take on port 4318; it is sent";
                self.ignore(variable, reason);
            }
            _ => {}
        }
    }

    fn sampler(&mut self) -> (Share, bool) {
        let configured = self.configured_share();
        let Some(sampler) = self.value("OTEL_TRACES_SAMPLER") else {
            return (configured, true);
        };
        let (name, parent_decides) = match sampler.strip_prefix("parentbased_") {
            Some(name) => (name, true),
            None => (sampler.as_str(), false),
        };
        match name {
            "always_on" => (Share::Of(1.0), parent_decides),
            "always_off" => (Share::Of(0.0), parent_decides),
            "traceidratio" => (Share::Of(self.ratio().unwrap_or(1.0)), parent_decides),
            _ => {
                self.ignore("OTEL_TRACES_SAMPLER", "not a sampler that is known here");
                (configured, true)
            }
        }
    }

    fn configured_share(&mut self) -> Share {
        match share(&self.config.sample) {
            Some(share) => share,
            None => {
                self.ignore("telemetry.sample", "expected auto or a share from 0 to 1");
                Share::Auto
            }
        }
    }

    fn ratio(&mut self) -> Option<f64> {
        let given = self.value("OTEL_TRACES_SAMPLER_ARG")?;
        match share(&given) {
            Some(Share::Of(ratio)) => Some(ratio),
            _ => {
                self.ignore("OTEL_TRACES_SAMPLER_ARG", "not a share from 0 to 1");
                None
            }
        }
    }

    fn limits(&mut self) -> Limits {
        let usual = Limits::default();
        let attributes = self.limit("OTEL_ATTRIBUTE_COUNT_LIMIT").unwrap_or(usual.attributes);
        let length = self.limit("OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT");
        let mut or = |variable, usual| self.limit(variable).unwrap_or(usual);
        Limits {
            attributes: or("OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT", attributes),
            events: or("OTEL_SPAN_EVENT_COUNT_LIMIT", usual.events),
            links: or("OTEL_SPAN_LINK_COUNT_LIMIT", usual.links),
            event_attributes: or("OTEL_EVENT_ATTRIBUTE_COUNT_LIMIT", attributes),
            link_attributes: or("OTEL_LINK_ATTRIBUTE_COUNT_LIMIT", attributes),
            value_length: self.limit("OTEL_SPAN_ATTRIBUTE_VALUE_LENGTH_LIMIT").or(length),
        }
    }

    fn limit(&mut self, variable: &str) -> Option<usize> {
        let limit = self.value(variable)?.parse();
        if limit.is_err() {
            self.ignore(variable, "not a number from 0");
        }
        limit.ok()
    }

    fn propagators(&mut self) {
        let Some(value) = self.value("OTEL_PROPAGATORS") else {
            return;
        };
        if value
            .split(',')
            .any(|propagator| !["tracecontext", "none"].contains(&propagator.trim()))
        {
            // Baggage may hold anything of anybody.
            self.ignore("OTEL_PROPAGATORS", "only tracecontext is carried on");
        }
    }
}

/// Those that nothing is made of, and those that the SDK reads itself, which passes over what it does not understand
/// without a word.
impl Reading<'_> {
    fn others(&mut self) {
        for variable in [
            "OTEL_BSP_EXPORT_TIMEOUT",
            "OTEL_BLRP_EXPORT_TIMEOUT",
            "OTEL_METRIC_EXPORT_TIMEOUT",
        ] {
            self.ignore_if_set(variable, "OTEL_EXPORTER_OTLP_TIMEOUT bounds each export");
        }
        for variable in [
            "OTEL_EXPORTER_OTLP_METRICS_DEFAULT_HISTOGRAM_AGGREGATION",
            "OTEL_METRICS_EXEMPLAR_FILTER",
            "OTEL_LOGRECORD_ATTRIBUTE_COUNT_LIMIT",
            "OTEL_LOGRECORD_ATTRIBUTE_VALUE_LENGTH_LIMIT",
            "OTEL_CONFIG_FILE",
        ] {
            self.ignore_if_set(variable, "not heeded");
        }
        for queue in ["BSP", "BLRP"] {
            for what in ["SCHEDULE_DELAY", "MAX_QUEUE_SIZE", "MAX_EXPORT_BATCH_SIZE"] {
                // Only to say it where it is none.
                let _ = self.limit(&format!("OTEL_{queue}_{what}"));
            }
        }
        let preference = "OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE";
        if let Some(given) = self.value(preference)
            && !["cumulative", "delta", "lowmemory"].contains(&given.to_lowercase().as_str())
        {
            self.ignore(preference, "expected cumulative, delta or lowmemory");
        }
    }

    fn ignore_if_set(&mut self, variable: &str, reason: &'static str) {
        if self.value(variable).is_some() {
            self.ignore(variable, reason);
        }
    }
}

/// The variable of a signal and that of all of them, the stronger first.
fn names(signal: Signal, what: &str) -> [String; 2] {
    let signal = signal.text().to_uppercase();
    [
        format!("OTEL_EXPORTER_OTLP_{signal}_{what}"),
        format!("OTEL_EXPORTER_OTLP_{what}"),
    ]
}

/// Reads `auto` or a share from 0 to 1.
pub(crate) fn share(text: &str) -> Option<Share> {
    if text == "auto" {
        return Some(Share::Auto);
    }
    let share: f64 = text.parse().ok()?;
    (0.0..=1.0).contains(&share).then_some(Share::Of(share))
}

#[cfg(test)]
mod tests;
