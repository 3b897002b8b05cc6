//! What the leader measured of the fleet, as metrics.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use super::{FleetGauge, FleetGauges};
use crate::telemetry::catalogue::{FLEET_MEASURED, FLEET_METRICS};
use crate::telemetry::{Watching, meters};

/// Tells the metrics of the fleet, and how old they are.
pub struct ToldGauges {
    measured: Arc<Mutex<Option<Instant>>>,
    _watching: Watching,
}

impl Default for ToldGauges {
    fn default() -> Self {
        let measured = Arc::<Mutex<Option<Instant>>>::default();
        let told = measured.clone();
        let watching = meters().watch(&FLEET_MEASURED, &[], move || {
            lock(&told).map(|measured| measured.elapsed().as_secs_f64())
        });
        Self {
            measured,
            _watching: watching,
        }
    }
}

impl FleetGauges for ToldGauges {
    fn measured(&self, gauges: &[FleetGauge]) {
        let known = gauges.iter().filter_map(|gauge| {
            let def = FLEET_METRICS.iter().find(|def| def.name == gauge.gauge)?;
            let labels = if def.attributes.is_empty() { Vec::new() } else { vec![gauge.label.as_str()] };
            Some((*def, labels, gauge.value))
        });
        meters().fleet_measured(&known.collect::<Vec<_>>());
        *lock(&self.measured) = Some(Instant::now());
    }

    fn forgotten(&self) {
        meters().fleet_forgotten();
        *lock(&self.measured) = None;
    }
}

fn lock(measured: &Mutex<Option<Instant>>) -> MutexGuard<'_, Option<Instant>> {
    measured.lock().unwrap_or_else(PoisonError::into_inner)
}
