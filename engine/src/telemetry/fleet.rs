//! What the leader measured of the whole fleet, as its gauges tell it.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use super::catalogue::{self as c, MetricDef, Values};
use super::meters::Meters;
use super::series::Watching;
use crate::leader::{FleetGauge, FleetGauges};

/// Tells what this process measured of the fleet, as long as it leads.
pub(crate) struct FleetTold {
    meters: &'static Meters,
    measured: Arc<Mutex<Option<Instant>>>,
    _age: Watching,
}

impl FleetTold {
    /// By these instruments.
    pub(crate) fn by(meters: &'static Meters) -> Self {
        let measured = Arc::new(Mutex::new(None::<Instant>));
        let read = measured.clone();
        let age = move || {
            let last = *read.lock().unwrap_or_else(PoisonError::into_inner);
            last.map(|last| last.elapsed().as_secs_f64())
        };
        Self {
            meters,
            measured,
            _age: meters.watch(&c::FLEET_MEASURED, &[], age),
        }
    }

    fn last(&self, measured: Option<Instant>) {
        *self.measured.lock().unwrap_or_else(PoisonError::into_inner) = measured;
    }
}

impl FleetGauges for FleetTold {
    fn measured(&self, gauges: &[FleetGauge]) {
        let known: Vec<_> = gauges.iter().filter_map(of_catalogue).collect();
        self.meters.fleet_measured(&known);
        self.last(Some(Instant::now()));
    }

    fn forgotten(&self) {
        self.meters.fleet_forgotten();
        self.last(None);
    }
}

/// A gauge as the catalogue has it; none of what another version may measure.
fn of_catalogue(gauge: &FleetGauge) -> Option<(&'static MetricDef, Vec<&str>, f64)> {
    let def = c::FLEET_METRICS.iter().find(|def| def.name == gauge.gauge)?;
    let values = match def.attributes {
        [] => Vec::new(),
        [attribute, ..] => match attribute.values {
            Values::Closed(all) if !all.contains(&gauge.label.as_str()) => return None,
            _ => vec![gauge.label.as_str()],
        },
    };
    Some((def, values, gauge.value))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::leader::STUCK_KINDS;

    #[test]
    fn every_kind_of_what_is_stuck_has_its_label() {
        for kind in STUCK_KINDS {
            let gauge = FleetGauge {
                gauge: "lockgate.stuck".to_owned(),
                label: kind.to_owned(),
                value: 1.0,
            };
            assert!(of_catalogue(&gauge).is_some(), "{kind}");
        }
    }

    #[test]
    fn what_is_not_in_the_catalogue_is_not_told() {
        let gauge = |gauge: &str, label: &str| FleetGauge {
            gauge: gauge.to_owned(),
            label: label.to_owned(),
            value: 1.0,
        };
        assert!(of_catalogue(&gauge("lockgate.unheard.of", "")).is_none());
        assert!(of_catalogue(&gauge("lockgate.stuck", "elephant")).is_none());
        assert_eq!(
            of_catalogue(&gauge("lockgate.outbox.oldest.age", "")).map(|told| told.1),
            Some(vec![])
        );
        assert_eq!(
            of_catalogue(&gauge("lockgate.queue.ready", "mails")).map(|told| told.1),
            Some(vec!["mails"])
        );
    }
}
