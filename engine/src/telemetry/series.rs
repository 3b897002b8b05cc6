//! The series of one metric: totals and values that its observable instrument reports.
//!
//! They are ours and not the SDK's so that counting costs one atomic addition, and so that a heartbeat can read them.

use std::collections::HashMap;
use std::ops::Add as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use opentelemetry::KeyValue;

use super::catalogue::{Attribute, Kind, MetricDef, Values};
use super::labels::Labels;

/// A total that grows; clones are the same.
#[derive(Debug, Clone, Default)]
pub(crate) struct Count(Arc<AtomicU64>);

impl Count {
    /// So many more.
    pub(crate) fn add(&self, more: u64) {
        self.0.fetch_add(more, Ordering::Relaxed);
    }
}

/// A value of this moment; clones are the same. Until it is set it is not reported.
#[derive(Debug, Clone)]
pub(crate) struct Value(Arc<AtomicU64>);

impl Value {
    /// This is the value now; a NaN: there is none.
    pub(crate) fn set(&self, value: f64) {
        self.0.store(value.to_bits(), Ordering::Relaxed);
    }
}

/// Reads a value when it is asked for: must not wait. `None`: there is none at the moment.
pub(crate) type Read = Box<dyn Fn() -> Option<f64> + Send + Sync>;

/// Something that is read when the metric is; no more once this is dropped. What a total had come to then stays in it.
#[must_use = "what is watched is watched as long as this lives"]
pub(crate) struct Watching {
    series: Arc<Series>,
    number: u64,
}

impl Drop for Watching {
    fn drop(&mut self) {
        let mut watched = lock(&self.series.watched);
        let Some(at) = watched.iter().position(|watch| watch.number == self.number) else {
            return;
        };
        let gone = watched.remove(at);
        // Totals never fall, and the last export is yet to come. Within the lock: nobody sees it twice, or not at all.
        if self.series.def.kind == Kind::Counter
            && let Some(last) = gone.value()
        {
            put_together(&mut lock(&self.series.kept), gone.attributes, last, f64::add);
        }
    }
}

struct Watch {
    number: u64,
    attributes: Vec<KeyValue>,
    read: Read,
}

impl Watch {
    fn value(&self) -> Option<f64> {
        // The reader's thread would die of a panic, for good.
        catch_unwind(AssertUnwindSafe(|| (self.read)())).ok().flatten()
    }
}

#[derive(Clone)]
struct Row {
    attributes: Arc<[KeyValue]>,
    cell: Arc<AtomicU64>,
}

/// All series of a metric that is not a histogram.
pub(super) struct Series {
    def: &'static MetricDef,
    rows: RwLock<HashMap<String, Row>>,
    watched: Mutex<Vec<Watch>>,
    /// What totals had come to that are watched no more. Locked within `watched`.
    kept: Mutex<Vec<Told>>,
    /// What the leader measured last.
    told: Mutex<Vec<Told>>,
}

/// The attributes of a series, and its value.
type Told = (Vec<KeyValue>, f64);

impl Series {
    pub(super) fn new(def: &'static MetricDef) -> Self {
        Self {
            def,
            rows: RwLock::default(),
            watched: Mutex::default(),
            kept: Mutex::default(),
            told: Mutex::default(),
        }
    }

    /// The total with these values of the attributes, in their order.
    pub(super) fn count(&self, labels: &Labels, values: &[&str]) -> Count {
        debug_assert_eq!(self.def.kind, Kind::Counter, "{}", self.def.name);
        Count(self.cell(labels, values, 0))
    }

    /// The value with these values of the attributes, in their order.
    pub(super) fn value(&self, labels: &Labels, values: &[&str]) -> Value {
        debug_assert_eq!(self.def.kind, Kind::Gauge, "{}", self.def.name);
        Value(self.cell(labels, values, f64::NAN.to_bits()))
    }

    fn cell(&self, labels: &Labels, values: &[&str], begin: u64) -> Arc<AtomicU64> {
        let key = values.join("\u{1f}");
        let rows = self.rows.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(row) = rows.get(&key) {
            return row.cell.clone();
        }
        drop(rows);
        let bounded = labels.bounded(self.def, values);
        let key = bounded.join("\u{1f}");
        let mut rows = self.rows.write().unwrap_or_else(PoisonError::into_inner);
        let row = rows.entry(key).or_insert_with(|| Row {
            attributes: labels.attributes(self.def, &bounded).into(),
            cell: Arc::new(AtomicU64::new(begin)),
        });
        row.cell.clone()
    }

    pub(super) fn watch(self: &Arc<Self>, labels: &Labels, values: &[&str], read: Read) -> Watching {
        let attributes = labels.attributes(self.def, &labels.bounded(self.def, values));
        let mut watched = lock(&self.watched);
        let number = watched.last().map_or(0, |last| last.number + 1);
        watched.push(Watch {
            number,
            attributes,
            read,
        });
        Watching {
            series: self.clone(),
            number,
        }
    }

    /// These are all values there are, in place of those told before; those of the same name, as all beyond the bound
    /// are, put together.
    pub(super) fn tell(&self, values: Vec<Told>) {
        let mut told = Vec::with_capacity(values.len());
        for (attributes, value) in values {
            put_together(&mut told, attributes, value, self.both());
        }
        *lock(&self.told) = told;
    }

    /// The sum of all totals one of whose closed attributes has this value; of all, without one.
    pub(super) fn total(&self, value: Option<&str>) -> u64 {
        let closed = |attribute: &&Attribute| matches!(attribute.values, Values::Closed(_));
        let names: Vec<&str> = self
            .def
            .attributes
            .iter()
            .copied()
            .filter(closed)
            .map(|own| own.name)
            .collect();
        let wanted = |attributes: &[KeyValue]| {
            let has = |own: &KeyValue, value: &str| names.contains(&own.key.as_str()) && own.value.as_str() == value;
            value.is_none_or(|value| attributes.iter().any(|own| has(own, value)))
        };
        let rows = self.rows.read().unwrap_or_else(PoisonError::into_inner);
        let counted = rows.values().filter(|row| wanted(&row.attributes));
        let counted: u64 = counted.map(|row| row.cell.load(Ordering::Relaxed)).sum();
        drop(rows);
        let read = self.read_watched();
        let read: f64 = read
            .iter()
            .filter(|(attributes, _)| wanted(attributes))
            .map(|(_, value)| value)
            .sum();
        counted + read as u64
    }

    /// Tells every series and its value, once each.
    pub(super) fn report(&self, mut tell: impl FnMut(f64, &[KeyValue])) {
        let rows: Vec<Row> = {
            let rows = self.rows.read().unwrap_or_else(PoisonError::into_inner);
            rows.values().cloned().collect()
        };
        for row in &rows {
            let bits = row.cell.load(Ordering::Relaxed);
            let value = match self.def.kind {
                Kind::Counter => bits as f64,
                Kind::Gauge | Kind::Histogram => f64::from_bits(bits),
            };
            if !value.is_nan() {
                tell(value, &row.attributes);
            }
        }
        for (attributes, value) in self.read_watched() {
            tell(value, &attributes);
        }
        for (attributes, value) in lock(&self.told).iter() {
            tell(*value, attributes);
        }
    }

    /// What is watched or was, with those of the same attributes put together: two producers in one process have one
    /// series.
    fn read_watched(&self) -> Vec<Told> {
        let watched = lock(&self.watched);
        let mut read = lock(&self.kept).clone();
        for watch in watched.iter() {
            if let Some(value) = watch.value() {
                put_together(&mut read, watch.attributes.clone(), value, self.both());
            }
        }
        read
    }

    /// What two values are together: of a state the greater one, of an amount the sum.
    fn both(&self) -> fn(f64, f64) -> f64 {
        let is_a_state =
            self.def.kind == Kind::Gauge && ["s", "{state}", "{leader}", "{term}"].contains(&self.def.unit);
        if is_a_state { f64::max } else { f64::add }
    }
}

fn put_together(all: &mut Vec<Told>, attributes: Vec<KeyValue>, value: f64, both: fn(f64, f64) -> f64) {
    match all.iter_mut().find(|(known, _)| *known == attributes) {
        Some((_, earlier)) => *earlier = both(*earlier, value),
        None => all.push((attributes, value)),
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
