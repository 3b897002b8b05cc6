//! What the engine records, as queries name it.

use lockgate::telemetry::catalogue::{Kind, MetricDef, Values, all_metrics};

/// A metric of the engine's catalogue.
#[derive(Clone, Copy)]
pub struct Metric(pub &'static MetricDef);

/// The metric of this name.
#[must_use]
pub fn metric(name: &str) -> Option<Metric> {
    all().find(|metric| metric.0.name == name)
}

/// Every metric there is.
pub fn all() -> impl Iterator<Item = Metric> {
    all_metrics().map(Metric)
}

impl Metric {
    /// The names of its series: a histogram has three.
    #[must_use]
    pub fn series(self) -> Vec<String> {
        let name = self.0.prometheus_name();
        if self.0.kind == Kind::Histogram {
            ["_bucket", "_sum", "_count"]
                .map(|part| format!("{name}{part}"))
                .to_vec()
        } else {
            vec![name]
        }
    }

    /// The values that one of its labels may have: none, as there is no such label; an empty list, since they are open.
    #[must_use]
    pub fn label(self, label: &str) -> Option<&'static [&'static str]> {
        let named = self
            .0
            .attributes
            .iter()
            .find(|attribute| attribute.name.replace('.', "_") == label)?;
        match named.values {
            Values::Closed(values) => Some(values),
            Values::Bounded(_) | Values::Number | Values::Text => Some(&[]),
        }
    }
}
