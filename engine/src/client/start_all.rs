//! Many runs of one workflow, started in pages.

use serde::Serialize;

use super::{Client, StartError};
use crate::lifecycle::{NewRun, RunId};
use crate::telemetry::closed::StartedBy;
use crate::telemetry::{TraceContext, meters};
use crate::workflow::{self, Workflow};

/// Runs started by one statement.
const PAGE: usize = 1000;
/// Bytes of input after which a statement is full.
const PAGE_BYTES: usize = 4 << 20;

/// Not all of the runs were started.
#[derive(Debug, thiserror::Error)]
#[error("{} runs were started, the others were not: {why}", started.len())]
pub struct StartAllError {
    /// Those that are durable.
    pub started: Vec<RunId>,
    /// Why the next page was not started; after [`StartError::Store`] it may have been.
    #[source]
    pub why: StartError,
}

impl Client {
    /// Starts a run for each input, in pages: each page is started whole or not at all. Runs with keys of their own are
    /// started one by one, with [`Client::start`].
    ///
    /// # Errors
    /// An input cannot be stored, or the database failed; the error says what was started.
    pub async fn start_all<W: Workflow>(
        &self,
        inputs: impl IntoIterator<Item = W::Input, IntoIter: Send>,
    ) -> Result<Vec<RunId>, StartAllError>
    where
        W::Input: Serialize,
    {
        let mut started = Vec::new();
        let mut inputs = inputs.into_iter();
        let mut page = match self.page_of::<W>(&mut inputs) {
            Ok(page) => page,
            Err(why) => return Err(StartAllError { started, why }),
        };
        while !page.is_empty() {
            // The next page is made while the server writes this one.
            let (written, next) = futures::join!(self.starts.start_page(&page, false), async {
                self.page_of::<W>(&mut inputs)
            });
            if let Err(error) = written {
                let why = error.into();
                return Err(StartAllError { started, why });
            }
            count_started(W::NAME, page.len());
            started.extend(page.iter().map(|run| run.id));
            page = match next {
                Ok(next) => next,
                Err(why) => return Err(StartAllError { started, why }),
            };
        }
        Ok(started)
    }

    /// As many as fit; none are left when it is empty.
    fn page_of<W: Workflow>(&self, inputs: &mut impl Iterator<Item = W::Input>) -> Result<Vec<NewRun>, StartError>
    where
        W::Input: Serialize,
    {
        let traceparent = TraceContext::current().map(TraceContext::traceparent);
        let mut page = Vec::new();
        let mut bytes = 0;
        while page.len() < PAGE && bytes < PAGE_BYTES {
            let Some(input) = inputs.next() else { break };
            let params = params_of::<W>(&input)?;
            bytes += params.len();
            page.push(self.operator.named(NewRun {
                params,
                traceparent: traceparent.clone(),
                ..NewRun::new(W::NAME)
            }));
        }
        Ok(page)
    }
}

/// Counts runs that are durable.
pub(super) fn count_started(workflow: &str, runs: usize) {
    meters().workflow(workflow).runs_started(StartedBy::Rust, runs);
}

/// The input's bytes, if they can be stored.
pub(super) fn params_of<W: Workflow>(input: &W::Input) -> Result<Vec<u8>, StartError>
where
    W::Input: Serialize,
{
    workflow::params_of::<W>(input).map_err(StartError::Invalid)
}
