//! Children: runs that the code of a run starts.

use std::fmt;
use std::marker::PhantomData;
use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::context::{Context, recordable, refuse};
use super::continuing::params_of;
use super::host::NewRunOfMine;
use super::step::{StepFuture, StepOptions, erase, from_json};
use super::{Workflow, fatal};
use crate::lifecycle::{ChildWishes, HIGHEST_PRIORITY, NewSignal, RunId, Signalled, misfit_attributes};

/// What may be said of a child.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ChildOptions {
    name: Option<String>,
    wishes: ChildWishes,
    elsewhere: bool,
}

impl ChildOptions {
    /// Calls its step so, instead of by its workflow.
    #[must_use]
    pub fn named(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Lets it outlive the run that starts it; else it is cancelled when that is over and it is not.
    #[must_use]
    pub fn detached(mut self) -> Self {
        self.wishes.detached = true;
        self
    }

    /// Puts it into this queue, instead of the one with its workflow's name.
    #[must_use]
    pub fn queue(mut self, queue: impl Into<String>) -> Self {
        self.wishes.queue = Some(queue.into());
        self
    }

    /// Gives it this priority, at most 20, instead of its parent's.
    #[must_use]
    pub fn priority(mut self, priority: u8) -> Self {
        self.wishes.priority = Some(priority);
        self
    }

    /// Starts it no earlier.
    #[must_use]
    pub fn at(mut self, time: DateTime<Utc>) -> Self {
        self.wishes.start_at = Some(recordable(time));
        self
    }

    /// Fails it when it is not over this long after its start.
    #[must_use]
    pub fn deadline(mut self, time: Duration) -> Self {
        self.wishes.deadline = Some(time);
        self
    }

    /// Runs it on behalf of this tenant, instead of its parent's.
    #[must_use]
    pub fn tenant(mut self, tenant: impl Into<String>) -> Self {
        self.wishes.tenant = Some(tenant.into());
        self
    }

    /// Counts it under this key in the limits of its queue that hold for each key.
    #[must_use]
    pub fn limit_key(mut self, key: impl Into<String>) -> Self {
        self.wishes.limit_key = Some(key.into());
        self
    }

    /// Makes it found by this attribute: a string, a number or a boolean of at most 250 characters; at most 16 of them.
    #[must_use]
    pub fn attribute(mut self, name: impl Into<String>, value: impl Into<serde_json::Value>) -> Self {
        let attributes = self
            .wishes
            .attributes
            .get_or_insert_with(|| serde_json::Value::Object(serde_json::Map::new()));
        if let Some(attributes) = attributes.as_object_mut() {
            attributes.insert(name.into(), value.into());
        }
        self
    }

    /// Starts it though this binary does not run its workflow: other replicas do.
    #[must_use]
    pub fn elsewhere(mut self) -> Self {
        self.elsewhere = true;
        self
    }

    /// What is wrong with it, if anything is.
    fn problem(&self) -> Option<String> {
        let wishes = &self.wishes;
        let empty = |text: &Option<String>| text.as_deref() == Some("");
        if empty(&wishes.queue) || empty(&wishes.tenant) || empty(&wishes.limit_key) {
            return Some("the queue, the tenant or the limit key of a child is empty".to_owned());
        }
        if let Some(priority) = wishes.priority.filter(|priority| *priority > HIGHEST_PRIORITY) {
            return Some(format!("priority {priority} of a child is above {HIGHEST_PRIORITY}"));
        }
        let attributes = wishes.attributes.as_ref().and_then(serde_json::Value::as_object);
        let wrong = attributes.and_then(misfit_attributes)?;
        Some(format!("a child cannot be started: {wrong}"))
    }
}

impl Context {
    /// Starts a run as a child of this one: when this is over it is durable, and however often the code is run again it is
    /// the same run. It is waited for with [`ChildHandle::result`], is cancelled when this run is over before it, unless it
    /// is [`ChildOptions::detached`], and shows in `runs show`.
    pub fn start_child<W: Workflow>(
        &self,
        input: &W::Input,
        options: ChildOptions,
    ) -> StepFuture<ChildHandle<W::Output>>
    where
        W::Input: Serialize,
    {
        let place = self.place(options.name.as_deref().unwrap_or(W::NAME));
        if let Some(wrong) = place.misnamed().or_else(|| options.problem()) {
            return refuse(wrong);
        }
        let params = match params_of::<W>(input) {
            Ok(params) => params,
            Err(wrong) => return refuse(wrong),
        };
        let child = NewRunOfMine {
            workflow: W::NAME,
            params,
            wishes: options.wishes,
            elsewhere: options.elsewhere,
        };
        let (ctx, path) = (self.clone(), place.to_string());
        let started = self.host().start_child(place, child);
        StepFuture::new(async move {
            Ok(ChildHandle {
                id: started.await?,
                ctx,
                path,
                output: PhantomData,
            })
        })
    }

    /// Starts a child and waits for what it returns.
    pub fn run_child<W: Workflow>(&self, input: &W::Input) -> StepFuture<W::Output>
    where
        W::Input: Serialize,
        W::Output: DeserializeOwned,
    {
        let started = self.start_child::<W>(input, ChildOptions::default());
        StepFuture::new(async move { started.await?.result().await })
    }
}

/// A child that was started. Dropping it changes nothing.
pub struct ChildHandle<O> {
    id: RunId,
    ctx: Context,
    path: String,
    output: PhantomData<fn() -> O>,
}

impl<O> ChildHandle<O> {
    /// Its id.
    #[must_use]
    pub fn id(&self) -> RunId {
        self.id
    }

    /// Waits until the child is over, whoever runs it, and records what it returned. A run that waits holds nothing. A
    /// child that failed or was cancelled is a [`super::StepError::Child`], one that went on as another is followed.
    pub fn result(&self) -> StepFuture<O>
    where
        O: DeserializeOwned + 'static,
    {
        let path = self.path.clone();
        let ended = self.ctx.host().child_end(path.clone());
        self.ctx
            .told(ended, move |done| from_json(&path, done.result.as_deref()))
    }

    /// Sends the child a signal, once; `false`: it is over. A step of its own.
    pub fn signal<T: Serialize>(&self, name: &str, payload: &T) -> StepFuture<bool> {
        let payload = match serde_json::to_value(payload) {
            Ok(payload) => payload,
            Err(error) => return refuse(format!("the payload of signal {name:?} is not JSON: {error}")),
        };
        let place = self.ctx.place("signal");
        let path = place.to_string();
        let signal = NewSignal {
            run: self.id,
            name: name.to_owned(),
            payload,
            idempotency_key: Some(format!("{}/{path}", self.ctx.run_id())),
            actor: None,
            reason: None,
        };
        let runs = self.ctx.host().runs();
        let send = move || {
            let (runs, signal) = (runs.clone(), signal.clone());
            async move {
                let runs = runs.ok_or_else(|| fatal(anyhow::anyhow!("nothing is done here")))?;
                match runs.signal_run(&signal).await? {
                    Signalled::Sent | Signalled::Known => Ok(true),
                    Signalled::Over(_) | Signalled::Unknown => Ok(false),
                    Signalled::Full => Err(anyhow::anyhow!(
                        "run {} has too many signals that it has not taken",
                        signal.run
                    )),
                }
            }
        };
        let done = self.ctx.host().step(place, StepOptions::default(), erase(send), None);
        self.ctx
            .told(done, move |done| from_json(&path, done.result.as_deref()))
    }

    /// Asks the child to stop. A step of its own; the child's end is waited for with [`ChildHandle::result`].
    pub fn cancel(&self, reason: &str) -> StepFuture<()> {
        let (child, reason) = (self.id, reason.to_owned());
        let place = self.ctx.place("cancel");
        let path = place.to_string();
        let runs = self.ctx.host().runs();
        let ask = move || {
            let (runs, reason) = (runs.clone(), reason.clone());
            async move {
                let runs = runs.ok_or_else(|| fatal(anyhow::anyhow!("nothing is done here")))?;
                anyhow::Ok(runs.cancel_run(child, &reason).await?)
            }
        };
        let done = self.ctx.host().step(place, StepOptions::default(), erase(ask), None);
        self.ctx
            .told(done, move |done| from_json(&path, done.result.as_deref()))
    }
}

impl<O> fmt::Debug for ChildHandle<O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ChildHandle").field(&self.id).finish()
    }
}
