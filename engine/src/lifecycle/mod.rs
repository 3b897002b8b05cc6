//! Run lifecycle (R40.2): uniqueness, leases, progress and recovery, behind two traits on the same tables.

mod attributes;
mod check;
mod children;
mod claims;
mod clock;
mod counts;
mod fleet;
mod ids;
mod manager;
mod new_run;
mod queues;
mod repeat;
mod run_store;
mod steps;

pub(crate) use attributes::{MOST_ATTRIBUTES, misfit_attribute, misfit_attributes};
pub(crate) use check::{check_ids, storable_reason};
pub(crate) use children::DEEPEST;
pub use children::{
    ChildEnd, ChildWishes, Continuation, EndedChild, NewChild, NewPublication, QueuedCommand, derived_id,
};
pub(crate) use claims::{Claims, Held, Known};
pub use clock::{Clock, SystemClock};
pub use counts::Counts;
pub(crate) use fleet::{BYTES_OF_ROW, SHORT_RECORD};
pub use fleet::{
    Batch, BatchClaim, BatchOutcome, Ended, Fleet, FleetError, HandBack, Heartbeat, NotRenewed, PlanChunk,
    PlanProgress, PlannedBatch, Renewal, RunClaim, RunRecord, Stuck, Swept, UndeliveredItem, Unrenewed, WorkRun,
};
pub(crate) use ids::is_contiguous;
pub use ids::{BadIds, ItemIds, pack_ids, unpack_ids};
pub use manager::{Driver, ManagerError, RunId, RunRequest, TaskRunManager};
pub(crate) use manager::{LARGEST_OUTPUT, LARGEST_PARAMS};
pub use new_run::{Birth, NewRun, Started};
pub(crate) use queues::misnamed;
pub use queues::{HIGHEST_PRIORITY, Holds, LONGEST_QUEUE_NAME, LimitedClaim, QueueNews, QueueRule, QueueSettings};
pub use repeat::{Again, RepeatRun};
pub use run_store::RunStore;
pub use steps::{
    Act, ClaimPage, Ending, Kind, LetGo, NewSignal, NewStep, News, OpenWait, Poked, Runnable, Saved, Share, Signal,
    Signalled, StepState, StepStatus, Transacted, TransactionWork,
};
