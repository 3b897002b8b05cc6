//! Sources of fan-outs that a test makes up, in the place of those that read a database.

use std::any::Any;
use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use async_trait::async_trait;

use crate::workflow::{IdPages, Resources};

type Row<R> = Arc<dyn Fn(i64) -> Option<R> + Send + Sync>;

#[derive(Clone)]
struct Fake {
    ids: Arc<[i64]>,
    /// A [`Row`] of the source's rows.
    row: Arc<dyn Any + Send + Sync>,
}

/// All that a test made up, by the name of the source.
#[derive(Clone, Default)]
pub(super) struct FakeSources(BTreeMap<String, Fake>);

impl FakeSources {
    pub(super) fn add<R: 'static>(
        &mut self,
        name: String,
        mut ids: Vec<i64>,
        row: impl Fn(i64) -> Option<R> + Send + Sync + 'static,
    ) {
        ids.sort_unstable();
        ids.dedup();
        let row: Row<R> = Arc::new(row);
        let fake = Fake {
            ids: ids.into(),
            row: Arc::new(row),
        };
        self.0.insert(name, fake);
    }
}

struct FakePages {
    ids: Arc<[i64]>,
    next: usize,
}

#[async_trait]
impl IdPages for FakePages {
    async fn next(&mut self, limit: usize) -> anyhow::Result<Vec<i64>> {
        let page: Vec<i64> = self.ids.iter().skip(self.next).take(limit).copied().collect();
        self.next += page.len();
        Ok(page)
    }
}

fn fake<'a>(resources: &'a Resources, name: &str) -> Option<&'a Fake> {
    resources.get::<FakeSources>()?.0.get(name)
}

/// The ids of a source, if a test made it up.
pub(crate) fn fake_ids(resources: &Resources, name: &str, after: Option<i64>) -> Option<Box<dyn IdPages>> {
    let ids = fake(resources, name)?.ids.clone();
    let next = after.map_or(0, |after| ids.partition_point(|id| *id <= after));
    Some(Box::new(FakePages { ids, next }))
}

/// The rows of a source, if a test made it up.
pub(crate) fn fake_rows<R: 'static>(
    resources: &Resources,
    name: &str,
    ids: &[i64],
) -> Option<anyhow::Result<Vec<(i64, R)>>> {
    let fake = fake(resources, name)?;
    if let Some(row) = fake.row.downcast_ref::<Row<R>>() {
        return Some(Ok(ids.iter().filter_map(|id| Some((*id, row(*id)?))).collect()));
    }
    let why = format!(
        "the rows of the fake source {name} are to be {}",
        std::any::type_name::<R>()
    );
    if let Some(missing) = resources.get::<Missing>() {
        missing.note(&why);
    }
    Some(Err(anyhow::anyhow!(why)))
}

/// What a workflow needed and the test did not give; the test fails with it.
#[derive(Debug, Clone, Default)]
pub(super) struct Missing(Arc<OnceLock<String>>);

impl Missing {
    pub(super) fn note(&self, what: impl Into<String>) {
        let _ = self.0.set(what.into());
    }

    pub(super) fn noted(&self) -> Option<String> {
        self.0.get().cloned()
    }
}

/// An SQL source looks for its database.
pub(crate) fn note_missing_database(resources: &Resources) {
    if let Some(missing) = resources.get::<Missing>()
        && resources.get::<crate::postgres::Database>().is_none()
    {
        missing.note(
            "this workflow uses an SqlSource: give the test a database with lockgate::testing::postgres(), or make up \
             its rows with .fan_out_source",
        );
    }
}
