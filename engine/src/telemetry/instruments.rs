//! Instruments, made from the catalogue: what is not in it cannot be counted.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use opentelemetry::KeyValue;
use opentelemetry::metrics::{BoundHistogram, Histogram, Meter};

use super::catalogue::{Kind, MetricDef, all_metrics};
use super::labels::Labels;
use super::series::{Count, Series, Value, Watching};

/// All instruments of a provider.
pub(crate) struct Instruments {
    labels: Labels,
    series: HashMap<&'static str, Arc<Series>>,
    histograms: HashMap<&'static str, Histogram<f64>>,
}

/// A histogram with its attributes, which are looked up once; clones are the same.
#[derive(Clone)]
pub(crate) struct Timing(Arc<Unbound>);

struct Unbound {
    histogram: Histogram<f64>,
    attributes: Vec<KeyValue>,
    /// Since it was first recorded: one that is bound and says nothing would be told.
    bound: OnceLock<BoundHistogram<f64>>,
}

impl Timing {
    /// It took so long.
    pub(crate) fn took(&self, time: Duration) {
        let bind = || self.0.histogram.bind(&self.0.attributes);
        self.0.bound.get_or_init(bind).record(time.as_secs_f64());
    }
}

impl Instruments {
    /// Makes them. Once a provider: each makes series of its own.
    pub(super) fn on(meter: &Meter) -> Self {
        let (mut series, mut histograms) = (HashMap::new(), HashMap::new());
        for def in all_metrics() {
            match def.kind {
                Kind::Histogram => {
                    histograms.insert(def.name, histogram(meter, def));
                }
                Kind::Counter | Kind::Gauge => {
                    let of = Arc::new(Series::new(def));
                    observe(meter, def, of.clone());
                    series.insert(def.name, of);
                }
            }
        }
        Self {
            labels: Labels::default(),
            series,
            histograms,
        }
    }

    fn series(&self, def: &'static MetricDef) -> &Arc<Series> {
        &self.series[def.name]
    }

    /// The total with these values of its attributes, to be kept by who counts often.
    pub(crate) fn count(&self, def: &'static MetricDef, values: &[&str]) -> Count {
        self.series(def).count(&self.labels, values)
    }

    /// A value that is set when it changes.
    pub(crate) fn value(&self, def: &'static MetricDef, values: &[&str]) -> Value {
        self.series(def).value(&self.labels, values)
    }

    /// Reads a gauge, or a total that is counted elsewhere, whenever it is looked at, as long as the answer lives. What is
    /// watched twice is put together: sums of amounts, the greatest of states and ages.
    pub(crate) fn watch(
        &self,
        def: &'static MetricDef,
        values: &[&str],
        read: impl Fn() -> Option<f64> + Send + Sync + 'static,
    ) -> Watching {
        self.series(def).watch(&self.labels, values, Box::new(read))
    }

    /// A histogram with these values of its attributes, to be kept by who measures often.
    pub(crate) fn timing(&self, def: &'static MetricDef, values: &[&str]) -> Timing {
        Timing(Arc::new(Unbound {
            histogram: self.histograms[def.name].clone(),
            attributes: self.attributes(def, values),
            bound: OnceLock::new(),
        }))
    }

    /// The sum of a metric's totals one of whose attributes has this value; of all of them, without one.
    pub(crate) fn total(&self, def: &'static MetricDef, value: Option<&str>) -> u64 {
        self.series(def).total(value)
    }

    /// These are all values there are of a gauge, each with the values of its attributes, in place of those told before.
    pub(super) fn tell<'a>(&self, def: &'static MetricDef, values: impl Iterator<Item = (&'a [&'a str], f64)>) {
        let told = values.map(|(labels, value)| (self.attributes(def, labels), value));
        self.series(def).tell(told.collect());
    }

    pub(super) fn add(&self, def: &'static MetricDef, values: &[&str], more: u64) {
        if more > 0 {
            self.count(def, values).add(more);
        }
    }

    pub(super) fn record(&self, def: &'static MetricDef, values: &[&str], value: f64) {
        self.histograms[def.name].record(value, &self.attributes(def, values));
    }

    /// The name as labels have it, which may be that of all others.
    pub(super) fn bounded<'a>(&self, def: &'static MetricDef, name: &'a str) -> &'a str {
        self.labels.bounded(def, &[name]).first().copied().unwrap_or(name)
    }

    fn attributes(&self, def: &'static MetricDef, values: &[&str]) -> Vec<KeyValue> {
        self.labels.attributes(def, &self.labels.bounded(def, values))
    }
}

fn histogram(meter: &Meter, def: &'static MetricDef) -> Histogram<f64> {
    let builder = meter.f64_histogram(def.name).with_unit(def.unit);
    builder
        .with_description(def.about)
        .with_boundaries(def.bounds.to_vec())
        .build()
}

fn observe(meter: &Meter, def: &'static MetricDef, series: Arc<Series>) {
    match def.kind {
        Kind::Counter if def.unit == "s" => {
            let builder = meter.f64_observable_counter(def.name).with_unit(def.unit);
            let builder = builder.with_description(def.about);
            builder
                .with_callback(move |observer| series.report(|value, labels| observer.observe(value, labels)))
                .build();
        }
        Kind::Counter => {
            let builder = meter.u64_observable_counter(def.name).with_unit(def.unit);
            let builder = builder.with_description(def.about);
            builder
                .with_callback(move |observer| series.report(|value, labels| observer.observe(value as u64, labels)))
                .build();
        }
        Kind::Gauge | Kind::Histogram => {
            let builder = meter.f64_observable_gauge(def.name).with_unit(def.unit);
            let builder = builder.with_description(def.about);
            builder
                .with_callback(move |observer| series.report(|value, labels| observer.observe(value, labels)))
                .build();
        }
    }
}
