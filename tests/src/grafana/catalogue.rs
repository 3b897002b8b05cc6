//! What the engine records, as queries name it.

use super::draft::{ALL, Draft};

/// A metric of the engine's catalogue.
#[derive(Clone, Copy)]
pub struct Metric(&'static Draft);

/// The metric of this name.
#[must_use]
pub fn metric(name: &str) -> Option<Metric> {
    ALL.iter().find(|metric| metric.name == name).map(Metric)
}

/// Every metric there is.
pub fn all() -> impl Iterator<Item = Metric> {
    ALL.iter().map(Metric)
}

impl Metric {
    /// The name that Prometheus gives it.
    #[must_use]
    pub fn prometheus(self) -> String {
        let unit = match self.0.unit {
            "s" => "_seconds",
            "By" => "_bytes",
            _ => "",
        };
        let total = if self.0.kind == "Counter" { "_total" } else { "" };
        format!("{}{unit}{total}", self.0.name.replace('.', "_"))
    }

    /// The names of its series: a histogram has three.
    #[must_use]
    pub fn series(self) -> Vec<String> {
        let name = self.prometheus();
        if self.0.kind == "Histogram" {
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
        let of = |name: &str| name.replace('.', "_") == label;
        self.0
            .attributes
            .iter()
            .find(|(name, _)| of(name))
            .map(|(_, values)| *values)
    }
}
