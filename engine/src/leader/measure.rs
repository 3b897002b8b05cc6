//! Measuring the fleet: the leader reads the views that people ask and tells the metrics of it, so that both say the same.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::Mutex;

use super::{FleetGauge, FleetGauges, Job, MeasureStore, Reign};
use crate::lifecycle::FleetError;

/// What is wrong, and how large tables are, is read less often: it costs more and changes slowly.
const TROUBLE_EVERY: u32 = 4;

/// Measures the fleet and tells whoever reports it. Needs no fence: it only reads.
pub struct Measure {
    store: Arc<dyn MeasureStore>,
    gauges: Arc<dyn FleetGauges>,
    every: Duration,
    trouble: Mutex<Trouble>,
    /// The term whose end somebody waits for, to forget what was measured.
    watched: AtomicI64,
}

/// What was read last of what is read less often.
#[derive(Default)]
struct Trouble {
    /// In which term it was read.
    term: i64,
    round: u32,
    read: Vec<FleetGauge>,
}

impl Measure {
    /// A measurement each `every`.
    #[must_use]
    pub fn new(store: Arc<dyn MeasureStore>, gauges: Arc<dyn FleetGauges>, every: Duration) -> Self {
        Self {
            store,
            gauges,
            every,
            trouble: Mutex::default(),
            watched: AtomicI64::new(0),
        }
    }

    /// The gauges of a leader that leads no more would stand still for ever.
    fn forget_with(&self, reign: &Reign) {
        if self.watched.swap(reign.term, Ordering::Relaxed) == reign.term {
            return;
        }
        let (over, gauges) = (reign.over.clone(), self.gauges.clone());
        tokio::spawn(async move {
            over.cancelled().await;
            gauges.forgotten();
        });
    }
}

#[async_trait]
impl Job for Measure {
    fn name(&self) -> &'static str {
        "measure"
    }

    fn every(&self) -> Duration {
        self.every
    }

    async fn run_once(&self, reign: &Reign) -> Result<u64, FleetError> {
        let mut measured = self.store.measure_fleet().await?;
        let mut trouble = self.trouble.lock().await;
        // What was wrong when this replica led before may be well by now.
        if trouble.term != reign.term {
            trouble.term = reign.term;
            trouble.round = 0;
        }
        if trouble.round.is_multiple_of(TROUBLE_EVERY) {
            trouble.read = self.store.measure_trouble().await?;
        }
        trouble.round = trouble.round.wrapping_add(1);
        measured.extend(trouble.read.iter().cloned());
        if !reign.over.is_cancelled() {
            self.gauges.measured(&measured);
            self.forget_with(reign);
        }
        // To look is not worth a span.
        Ok(0)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::sync::Mutex as Lock;

    use tokio_util::sync::CancellationToken;

    use super::super::Untold;
    use super::*;

    #[derive(Default)]
    struct Told(Lock<Vec<Option<usize>>>);

    impl FleetGauges for Told {
        fn measured(&self, gauges: &[FleetGauge]) {
            self.0.lock().unwrap().push(Some(gauges.len()));
        }
        fn forgotten(&self) {
            self.0.lock().unwrap().push(None);
        }
    }

    #[derive(Default)]
    struct Read(AtomicI64);

    fn gauge() -> FleetGauge {
        FleetGauge {
            gauge: "lockgate.replicas".to_owned(),
            label: "live".to_owned(),
            value: 1.0,
        }
    }

    #[async_trait]
    impl MeasureStore for Read {
        async fn measure_fleet(&self) -> Result<Vec<FleetGauge>, FleetError> {
            Ok(vec![gauge()])
        }
        async fn measure_trouble(&self) -> Result<Vec<FleetGauge>, FleetError> {
            self.0.fetch_add(1, Ordering::Relaxed);
            Ok(vec![gauge(), gauge()])
        }
        async fn take_untold(&self, _: i64, _: i64) -> Result<Vec<Untold>, FleetError> {
            Ok(Vec::new())
        }
    }

    #[tokio::test]
    async fn trouble_is_read_seldom_and_told_always_and_all_is_forgotten_with_the_term() {
        let (store, told) = (Arc::new(Read::default()), Arc::new(Told::default()));
        let job = Measure::new(store.clone(), told.clone(), Duration::from_secs(15));
        let reign = Reign {
            term: 3,
            over: CancellationToken::new(),
        };
        for _ in 0..5 {
            job.run_once(&reign).await.unwrap();
        }
        assert_eq!(store.0.load(Ordering::Relaxed), 2);
        assert_eq!(*told.0.lock().unwrap(), [Some(3); 5]);
        reign.over.cancel();
        job.run_once(&reign).await.unwrap();
        tokio::time::timeout(Duration::from_secs(10), async {
            while told.0.lock().unwrap().last() != Some(&None) {
                tokio::task::yield_now().await;
            }
        })
        .await
        .unwrap();
        assert_eq!(told.0.lock().unwrap().len(), 6, "a term that is over tells nothing");
        let next = Reign {
            term: 5,
            over: CancellationToken::new(),
        };
        job.run_once(&next).await.unwrap();
        let read = store.0.load(Ordering::Relaxed);
        assert_eq!(read, 3, "what was wrong in its last term is not told in this one");
    }
}
