//! Going on as another run, with a short record of its own.

use std::fmt;

use serde::Serialize;

use super::Workflow;
use super::context::Context;
use crate::lifecycle::LARGEST_PARAMS;

/// How the code says that its run goes on as another one.
#[derive(Debug)]
pub(crate) struct Continued(pub(crate) Vec<u8>);

impl fmt::Display for Continued {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the run goes on as another one")
    }
}

impl std::error::Error for Continued {}

/// The input of the run that goes on, if that is what the code has ended with.
pub(crate) fn continued(error: &anyhow::Error) -> Option<&[u8]> {
    error.downcast_ref::<Continued>().map(|continued| &*continued.0)
}

impl Context {
    /// Ends this run by going on as a new one of the same workflow, with this input and without any steps: for code that
    /// goes round for ever, whose record would grow for ever. The answer is an error that is to be returned at once,
    /// `return ctx.continue_as_new::<Self>(&next)`, and that the engine takes for what it is; the new run starts in the
    /// commit that ends this one. Singleton key, queue, priority, deadline, parent and signals that no step has taken pass
    /// on; whoever waits for the result of this run waits for that one's.
    ///
    /// # Errors
    /// Always.
    pub fn continue_as_new<W: Workflow>(&self, input: &W::Input) -> anyhow::Result<W::Output>
    where
        W::Input: Serialize,
    {
        if W::NAME != self.workflow() {
            anyhow::bail!(
                "a run of workflow {} cannot go on as one of {}",
                self.workflow(),
                W::NAME
            );
        }
        let params = params_of::<W>(input).map_err(anyhow::Error::msg)?;
        Err(anyhow::Error::new(Continued(params)))
    }
}

/// The bytes of an input, or why it cannot be one.
pub(crate) fn params_of<W: Workflow>(input: &W::Input) -> Result<Vec<u8>, String>
where
    W::Input: Serialize,
{
    match serde_json::to_vec(input) {
        Ok(params) if params.len() > LARGEST_PARAMS => Err(format!(
            "the input of workflow {} is {} bytes, more than {LARGEST_PARAMS}: store it in a table and give its id",
            W::NAME,
            params.len()
        )),
        Ok(params) => Ok(params),
        Err(error) => Err(format!("the input of workflow {} is not JSON: {error}", W::NAME)),
    }
}
