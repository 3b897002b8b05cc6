//! The workflows a binary has, by name.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::Context as _;
use futures::FutureExt;
use futures::future::BoxFuture;

use super::{Context, Workflow, misfit};
use crate::lifecycle::{QueueSettings, Runnable};

/// A workflow with its types erased.
pub(crate) trait DynWorkflow: Send + Sync {
    fn run<'a>(&'a self, ctx: Context, params: &'a [u8]) -> BoxFuture<'a, anyhow::Result<Vec<u8>>>;
    fn check(&self, params: &[u8]) -> anyhow::Result<()>;
    fn runnable(&self) -> Runnable;
    fn type_name(&self) -> &'static str;
}

impl<W: Workflow> DynWorkflow for W {
    fn run<'a>(&'a self, ctx: Context, params: &'a [u8]) -> BoxFuture<'a, anyhow::Result<Vec<u8>>> {
        async move {
            let input = read_params::<W>(params)?;
            let output = Workflow::run(self, ctx, input).await?;
            serde_json::to_vec(&output).context("the workflow's output is not JSON")
        }
        .boxed()
    }

    fn check(&self, params: &[u8]) -> anyhow::Result<()> {
        read_params::<W>(params).map(|_| ())
    }

    fn runnable(&self) -> Runnable {
        Runnable {
            workflow: W::NAME.to_owned(),
            version: W::VERSION,
            replays: W::REPLAYS,
        }
    }

    fn type_name(&self) -> &'static str {
        std::any::type_name::<W>()
    }
}

fn read_params<W: Workflow>(params: &[u8]) -> anyhow::Result<W::Input> {
    serde_json::from_slice(params)
        .map_err(|error| anyhow::anyhow!("the parameters do not fit workflow {}: {}", W::NAME, misfit(&error)))
}

/// The workflows a binary has.
#[derive(Clone, Default)]
pub struct Registry {
    workflows: BTreeMap<&'static str, Arc<dyn DynWorkflow>>,
    /// Names that were given to two workflows, and the types that have them.
    shared: BTreeMap<&'static str, [&'static str; 2]>,
    queues: BTreeMap<String, QueueSettings>,
}

impl Registry {
    /// Adds a workflow. One that could not replay what it begins does not compile; with two of one name no replica starts.
    pub fn add<W: Workflow>(&mut self, workflow: W) {
        if let Some(replaced) = self.replace(workflow) {
            self.shared
                .insert(W::NAME, [replaced.type_name(), std::any::type_name::<W>()]);
        }
    }

    /// Adds a workflow in place of the one that has its name, which it answers.
    pub(crate) fn replace<W: Workflow>(&mut self, workflow: W) -> Option<Arc<dyn DynWorkflow>> {
        const {
            assert!(
                0 < W::VERSION && W::VERSION <= i32::MAX.cast_unsigned(),
                "VERSION is from 1 on"
            );
            assert!(
                *W::REPLAYS.start() <= W::VERSION && W::VERSION <= *W::REPLAYS.end(),
                "REPLAYS does not have VERSION in it"
            );
            // Each is told to the store with every look for runs.
            assert!(
                *W::REPLAYS.end() - *W::REPLAYS.start() < 1000,
                "REPLAYS has more than a thousand versions"
            );
        }
        self.workflows.insert(W::NAME, Arc::new(workflow))
    }

    /// Whether each workflow has a name of its own: else runs of one would be run by the code of another.
    ///
    /// # Errors
    /// Names those that share one.
    pub fn check_names(&self) -> anyhow::Result<()> {
        let Some((name, [one, other])) = self.shared.iter().next() else {
            return Ok(());
        };
        anyhow::bail!(
            "two workflows are named {name}: {one} and {other}; nothing was started, give one of them another NAME"
        )
    }

    /// Says what is to be set for a queue; the last one of a name wins.
    pub fn add_queue(&mut self, settings: QueueSettings) {
        self.queues.insert(settings.name.clone(), settings);
    }

    /// What the binary says is to be set for queues.
    pub fn queues(&self) -> impl Iterator<Item = &QueueSettings> {
        self.queues.values()
    }

    /// The names, in order.
    #[must_use]
    pub fn names(&self) -> Vec<String> {
        self.workflows.keys().map(|name| (*name).to_owned()).collect()
    }

    /// Whether parameters fit a workflow.
    ///
    /// # Errors
    /// There is no such workflow, or they do not fit it.
    pub fn check(&self, workflow: &str, params: &[u8]) -> anyhow::Result<()> {
        let known = self.get(workflow).with_context(|| {
            format!(
                "there is no workflow {workflow} in this binary; it has: {}",
                self.names().join(", ")
            )
        })?;
        known.check(params)
    }

    /// What can be run of each workflow.
    pub(crate) fn runnable(&self) -> Vec<Runnable> {
        self.workflows.values().map(|workflow| workflow.runnable()).collect()
    }

    pub(crate) fn get(&self, name: &str) -> Option<Arc<dyn DynWorkflow>> {
        self.workflows.get(name).cloned()
    }
}

impl std::fmt::Debug for Registry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.workflows.keys()).finish()
    }
}

#[cfg(test)]
mod tests {
    use std::ops::RangeInclusive;

    use tokio_util::sync::CancellationToken;

    use super::*;
    use crate::cli::{Host, Roles};
    use crate::config::Config;

    /// Learns to replay what the next release begins with.
    struct Between;

    impl Workflow for Between {
        const NAME: &'static str = "between";
        const VERSION: u32 = 2;
        const REPLAYS: RangeInclusive<u32> = 1..=3;
        type Input = ();
        type Output = ();

        async fn run(&self, _: Context, (): ()) -> anyhow::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn code_replays_all_versions_that_it_says() {
        let mut registry = Registry::default();
        registry.add(Between);
        let runnable = registry.runnable().remove(0);
        assert_eq!((runnable.version, runnable.replays), (2, 1..=3));
    }

    /// Has taken a name that is another's.
    struct Copied;

    impl Workflow for Copied {
        const NAME: &'static str = Between::NAME;
        type Input = ();
        type Output = ();

        async fn run(&self, _: Context, (): ()) -> anyhow::Result<()> {
            Ok(())
        }
    }

    #[tokio::test]
    async fn no_replica_starts_with_two_workflows_of_one_name() {
        let engine = crate::Engine::builder().workflow(Between);
        assert!(engine.registry().is_some_and(|registry| registry.check_names().is_ok()));
        let engine = engine.workflow(Copied);
        let run = engine.run(Config::default(), Roles::USUAL, CancellationToken::new());
        let refused = run.await.err().map(|error| error.to_string()).unwrap_or_default();
        assert!(refused.starts_with("two workflows are named between: "), "{refused}");
        assert!(
            refused.contains("::Between and ") && refused.contains("::Copied;"),
            "{refused}"
        );
    }
}
