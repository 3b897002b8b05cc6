//! Everything that is told about a process, as data: instruments, spans and log events are made from this, the reference
//! in docs/telemetry.md is written from it, and the tests hold what is really exported against it.

mod attributes;
mod events;
mod fleet_metrics;
mod metrics;
mod reference;
mod spans;

pub use attributes::*;
pub use events::*;
pub use fleet_metrics::*;
pub use metrics::*;
pub use reference::reference;
pub use spans::*;

/// An attribute of spans or metrics.
#[derive(Debug, PartialEq)]
pub struct Attribute {
    /// Its name.
    pub name: &'static str,
    /// What it says.
    pub about: &'static str,
    /// What values it may have.
    pub values: Values,
}

/// What values an attribute may have.
#[derive(Debug, PartialEq)]
pub enum Values {
    /// One of these.
    Closed(&'static [&'static str]),
    /// Names that people choose; of a metric so many and then `_other`.
    Bounded(usize),
    /// A number.
    Number,
    /// Anything; never of a metric.
    Text,
}

/// What an instrument measures.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A total that only grows.
    Counter,
    /// How values are spread.
    Histogram,
    /// A value of this moment.
    Gauge,
}

/// Which processes report a metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// Every process.
    Process,
    /// Replicas that work.
    Worker,
    /// Replicas that may lead.
    Candidate,
    /// The leader alone: values of the whole fleet.
    Leader,
    /// Replicas that serve the HTTP API, and processes that send direct commands.
    Door,
    /// Consumers such as email-sender.
    Consumer,
}

/// When something is there to be seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum When {
    /// From the start.
    Always,
    /// Once there was work of that sort.
    AtWork,
    /// Only in trouble.
    InTrouble,
}

/// A metric.
#[derive(Debug)]
pub struct MetricDef {
    /// Its name.
    pub name: &'static str,
    /// What it measures.
    pub kind: Kind,
    /// Its unit.
    pub unit: &'static str,
    /// What it says.
    pub about: &'static str,
    /// Its attributes, in the order in which their values are given; an attribute without a value is left out.
    pub attributes: &'static [&'static Attribute],
    /// Upper bounds of the buckets of a histogram.
    pub bounds: &'static [f64],
    /// Who reports it.
    pub source: Source,
    /// When it is there to be seen.
    pub when: When,
}

impl MetricDef {
    /// The name that Prometheus gives it, by OTLP and by scraping.
    #[must_use]
    pub fn prometheus_name(&self) -> String {
        let name = self.name.replace('.', "_");
        let unit = match self.unit {
            "s" => "_seconds",
            "By" => "_bytes",
            _ => "",
        };
        let total = if self.kind == Kind::Counter { "_total" } else { "" };
        format!("{name}{unit}{total}")
    }
}

/// A span.
#[derive(Debug)]
pub struct SpanDef {
    /// Its name; what is in braces is filled in.
    pub name: &'static str,
    /// `internal`, `producer`, `consumer`, `client` or `server`.
    pub kind: &'static str,
    /// What it covers.
    pub about: &'static str,
    /// What it is within.
    pub parent: &'static str,
    /// What it is linked to.
    pub links: &'static str,
    /// Its attributes.
    pub attributes: &'static [&'static Attribute],
    /// Names of events on it.
    pub events: &'static [&'static str],
    /// When it is there to be seen.
    pub when: When,
}

impl SpanDef {
    /// Its name with that filled in which is in braces.
    #[must_use]
    pub fn named(&self, part: &str) -> String {
        let fixed = self.name.split('{').next().unwrap_or_default();
        format!("{fixed}{part}").trim_end().to_owned()
    }

    /// Whether a span of this name may be one of these.
    #[must_use]
    pub fn is_of(&self, name: &str) -> bool {
        match self.name.split_once('{') {
            Some((fixed, _)) => name.starts_with(fixed) || name == fixed.trim_end(),
            None => name == self.name,
        }
    }
}

/// A log event.
#[derive(Debug)]
pub struct EventDef {
    /// Its name.
    pub name: &'static str,
    /// `ERROR`, `WARN` or `INFO`.
    pub level: &'static str,
    /// What it says.
    pub about: &'static str,
    /// Its fields.
    pub fields: &'static [&'static str],
}

#[cfg(test)]
mod tests;
