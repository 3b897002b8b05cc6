//! The transactional outbox: commands that were committed with their caller's own rows, sent by whoever holds their lane.

mod lanes;
mod message;
mod relay;
mod store;
mod stream;
mod verdict;

pub use relay::{OutboxParts, OutboxRelay, OutboxSettings};
pub use store::{
    DueRoute, DueRoutes, LaneClaim, OutboxRow, OutboxStore, PageAsk, Place, RefusedRow, SettledPage, Settling,
};
