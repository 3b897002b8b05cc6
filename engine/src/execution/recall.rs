//! Reads records that are too large to come with a page of claims: one after the other, when those in memory leave room.

use std::pin::pin;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::{Mutex, Notify};

use super::book::{Fate, HeldRun};
use super::executor::Shared;
use super::owner_host::Left;
use crate::lifecycle::RunRecord;

/// The large records in memory.
#[derive(Debug)]
pub(crate) struct LargeRecords {
    room: usize,
    used: AtomicUsize,
    freed: Notify,
    /// Whoever reads knows that nobody else fills the room meanwhile.
    reading: Mutex<()>,
}

impl LargeRecords {
    pub(crate) fn new(room: usize) -> Self {
        Self {
            room,
            used: AtomicUsize::new(0),
            freed: Notify::new(),
            reading: Mutex::default(),
        }
    }

    /// Waits for room and reads. How much comes is known when it is there, so one record may be more than the room.
    async fn read<E>(&self, read: impl Future<Output = Result<RunRecord, E>>) -> Result<(RunRecord, Place<'_>), E> {
        let _turn = self.reading.lock().await;
        while self.used.load(Ordering::Acquire) >= self.room {
            self.freed.notified().await;
        }
        let record = read.await?;
        let bytes = record.bytes();
        self.used.fetch_add(bytes, Ordering::AcqRel);
        Ok((record, Place { of: self, bytes }))
    }
}

/// The place of a record among the large ones, until this is dropped.
pub(super) struct Place<'a> {
    of: &'a LargeRecords,
    bytes: usize,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.of.used.fetch_sub(self.bytes, Ordering::AcqRel);
        self.of.freed.notify_one();
    }
}

/// Reads the record of a run that is held, unless the claim ends before there is room. A run that is to stop waits too: what it
/// undoes is in its record.
pub(super) async fn recall<'a>(shared: &'a Shared, held: &HeldRun) -> Result<(RunRecord, Place<'a>), Left> {
    let mut known = Fate::Held;
    let mut was_poked = false;
    let mut read = pin!(shared.large_records.read(shared.runs.read_record(held.claim.run)));
    let read = loop {
        tokio::select! {
            biased;
            fate = held.lease.turns_from(known) => match fate {
                Fate::Doubted | Fate::Lost => return Err(Left::Lost),
                Fate::Held | Fate::Halted => known = fate,
            },
            () = shared.stopping.cancelled() => return Err(Left::Retry("this replica stops".to_owned())),
            () = held.poked() => was_poked = true,
            read = &mut read => break read,
        }
        if held.is_forced() {
            return Err(Left::Halted);
        }
    };
    if was_poked {
        // The code hears of it.
        held.ring();
    }
    read.map_err(|error| Left::Retry(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lifecycle::Signal;

    fn record(bytes: usize) -> RunRecord {
        let signal = Signal {
            seq: 1,
            name: String::new(),
            payload: vec![0; bytes],
        };
        RunRecord {
            steps: Vec::new(),
            signals: vec![signal],
        }
    }

    #[tokio::test]
    async fn a_record_is_read_when_the_ones_in_memory_leave_room() {
        let records = LargeRecords::new(1_000);
        let read = |bytes| records.read(async move { Ok::<_, ()>(record(bytes)) });
        let (_, first) = read(600).await.unwrap_or_else(|()| unreachable!());
        let (_, second) = read(600).await.unwrap_or_else(|()| unreachable!());
        let mut third = pin!(read(600));
        assert!(futures::poll!(&mut third).is_pending(), "there is no room");
        drop(first);
        let (_, third) = third.await.unwrap_or_else(|()| unreachable!());
        drop((second, third));
        assert_eq!(records.used.load(Ordering::Acquire), 0);
    }
}
