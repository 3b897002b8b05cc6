//! What an executor has beside the store, for tests that send nothing.

use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;

use crate::delivery::{Message, Publisher, Rejected, Ticket, TopicError, TopicInfo};

pub(super) struct NoPublisher;

impl Publisher for NoPublisher {
    fn publish(&self, _: &Message, _: Ticket) -> Result<(), Rejected> {
        unreachable!()
    }
    fn capacity(&self) -> BoxFuture<'_, ()> {
        unreachable!()
    }
    fn check_topic<'a>(&'a self, _: &'a str) -> BoxFuture<'a, Result<TopicInfo, TopicError>> {
        unreachable!()
    }
    fn shutdown(&self, _: Duration) -> BoxFuture<'_, ()> {
        async {}.boxed()
    }
}
