//! The tickets of one producer, kept on our side so that every one of them is settled exactly once
//! even if the client library never reports its message.

use std::cell::Cell;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::delivery::Ticket;

/// How many locks the tickets are spread over; a power of two. Threads that publish keep to one lane each.
const LANES: usize = 8;

/// The end of a lane's list of free slots.
const NONE: u32 = u32::MAX;

/// Tickets by key. A key fits the opaque pointer of a message; taking it a second time gives nothing.
pub(super) struct Tickets {
    lanes: [Mutex<Lane>; LANES],
}

struct Lane {
    slots: Vec<Slot>,
    free: u32,
    held: usize,
}

struct Slot {
    /// Counts the uses of this slot so that a late report does not settle the slot's next ticket.
    uses: u32,
    next_free: u32,
    ticket: Option<Ticket>,
}

impl Tickets {
    pub(super) fn new() -> Tickets {
        Tickets {
            lanes: std::array::from_fn(|_| {
                Mutex::new(Lane {
                    slots: Vec::new(),
                    free: NONE,
                    held: 0,
                })
            }),
        }
    }

    /// Keeps a ticket and returns the key that gets it back.
    pub(super) fn put(&self, ticket: Ticket) -> usize {
        let number = lane_of_this_thread();
        let (slot, uses) = self.lane(number).put(ticket);
        // The layout of a key: uses (32 bits), slot (29 bits), lane (3 bits).
        (uses as usize) << 32 | (slot as usize) << LANES.trailing_zeros() | number
    }

    /// Gives the ticket back, once.
    pub(super) fn take(&self, key: usize) -> Option<Ticket> {
        let slot = (key & 0xffff_ffff) >> LANES.trailing_zeros();
        self.lane(key % LANES).take(slot, (key >> 32) as u32)
    }

    /// Takes out whatever is left.
    pub(super) fn drain(&self) -> Vec<Ticket> {
        (0..LANES).flat_map(|number| self.lane(number).drain()).collect()
    }

    /// How many tickets are out.
    pub(super) fn held(&self) -> usize {
        (0..LANES).map(|number| self.lane(number).held).sum()
    }

    fn lane(&self, number: usize) -> MutexGuard<'_, Lane> {
        // No code of others runs under the lock, so a poisoned one is still in order.
        self.lanes[number].lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Lane {
    fn put(&mut self, ticket: Ticket) -> (u32, u32) {
        self.held += 1;
        if self.free == NONE {
            self.slots.push(Slot {
                uses: 0,
                next_free: NONE,
                ticket: Some(ticket),
            });
            return (self.slots.len() as u32 - 1, 0);
        }
        let number = self.free;
        let slot = &mut self.slots[number as usize];
        self.free = slot.next_free;
        slot.ticket = Some(ticket);
        (number, slot.uses)
    }

    fn take(&mut self, number: usize, uses: u32) -> Option<Ticket> {
        let slot = self.slots.get_mut(number).filter(|slot| slot.uses == uses)?;
        let ticket = slot.ticket.take()?;
        slot.uses = slot.uses.wrapping_add(1);
        slot.next_free = self.free;
        self.free = number as u32;
        self.held -= 1;
        Some(ticket)
    }

    fn drain(&mut self) -> Vec<Ticket> {
        let numbers = 0..self.slots.len();
        numbers
            .filter_map(|number| self.take(number, self.slots[number].uses))
            .collect()
    }
}

/// Spreads publishing threads over the lanes, in the order in which they first publish.
fn lane_of_this_thread() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    thread_local! { static LANE: Cell<Option<usize>> = const { Cell::new(None) } }
    LANE.with(|lane| {
        lane.get().unwrap_or_else(|| {
            let number = NEXT.fetch_add(1, Ordering::Relaxed) % LANES;
            lane.set(Some(number));
            number
        })
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::delivery::{Outcome, OutcomeSink};
    use proptest::prelude::*;
    use std::sync::Arc;

    struct Nobody;
    impl OutcomeSink for Nobody {
        fn settle(&self, _: u32, _: Outcome) {}
    }

    fn ticket(index: u32) -> Ticket {
        Ticket {
            sink: Arc::new(Nobody),
            index,
        }
    }

    #[test]
    fn a_key_gives_its_ticket_once() {
        let tickets = Tickets::new();
        let key = tickets.put(ticket(7));
        assert_eq!(tickets.held(), 1);
        assert_eq!(tickets.take(key).map(|t| t.index), Some(7));
        assert!(tickets.take(key).is_none());
        assert_eq!(tickets.held(), 0);
    }

    #[test]
    fn a_late_key_does_not_take_the_slots_next_ticket() {
        let tickets = Tickets::new();
        let late = tickets.put(ticket(1));
        assert_eq!(tickets.drain().len(), 1);
        let next = tickets.put(ticket(2));
        assert_ne!(late, next);
        assert!(tickets.take(late).is_none());
        assert_eq!(tickets.take(next).map(|t| t.index), Some(2));
    }

    #[test]
    fn threads_that_put_and_take_at_once_lose_nothing() {
        let tickets = Tickets::new();
        let (keys, taken) = std::sync::mpsc::channel();
        let sum: u64 = std::thread::scope(|scope| {
            for thread in 0..4 {
                let (keys, tickets) = (keys.clone(), &tickets);
                scope.spawn(move || {
                    (0..10_000).for_each(|i| keys.send(tickets.put(ticket(thread * 10_000 + i))).unwrap())
                });
            }
            drop(keys);
            taken
                .iter()
                .map(|key| u64::from(tickets.take(key).unwrap().index))
                .sum()
        });
        assert_eq!(sum, (0..40_000u64).sum::<u64>());
        assert_eq!(tickets.held(), 0);
    }

    proptest! {
        #[test]
        fn any_order_of_puts_takes_and_drains_gives_each_ticket_once(steps in prop::collection::vec(0u8..10, 1..300)) {
            let tickets = Tickets::new();
            let (mut keys, mut put, mut seen) = (Vec::new(), 0u32, Vec::new());
            for (turn, step) in steps.into_iter().enumerate() {
                match step {
                    0..5 => { keys.push(tickets.put(ticket(put))); put += 1; }
                    5..9 if !keys.is_empty() => seen.extend(tickets.take(keys[turn % keys.len()]).map(|t| t.index)),
                    _ => seen.extend(tickets.drain().into_iter().map(|t| t.index)),
                }
                prop_assert_eq!(tickets.held() + seen.len(), put as usize);
            }
            seen.extend(tickets.drain().into_iter().map(|t| t.index));
            seen.sort_unstable();
            prop_assert_eq!(seen, (0..put).collect::<Vec<_>>());
        }
    }
}
