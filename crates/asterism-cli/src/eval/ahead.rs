//! Samples that are made by other threads before their turn comes: of a long context, making them
//! takes as long as a GPU takes to answer.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

/// Jobs that are done at the same time, at most: each result may hold many texts.
const MOST: usize = 8;

/// Results of numbered jobs, in order.
pub(super) struct Ahead<T> {
    /// Numbers of jobs to be done.
    orders: Sender<usize>,
    made: Receiver<(usize, thread::Result<T>)>,
    /// Made before their turn.
    early: BTreeMap<usize, thread::Result<T>>,
    count: usize,
    next: usize,
    ordered: usize,
    /// Jobs that are done while a result is in use.
    ahead: usize,
}

impl<T: Send + 'static> Ahead<T> {
    /// Has `make` do jobs 0 to `count`. `is_idle` says that the processor has nothing else to do:
    /// otherwise each job is done when its turn comes.
    pub(super) fn start(
        count: usize,
        is_idle: bool,
        make: impl Fn(usize) -> T + Send + Sync + 'static,
    ) -> Self {
        let cores = thread::available_parallelism().map_or(1, usize::from);
        let ahead = if is_idle { (cores / 2).clamp(1, MOST) } else { 0 };
        let (orders, ordered) = channel();
        let (done, made) = channel();
        let (make, ordered) = (Arc::new(make), Arc::new(Mutex::new(ordered)));
        // The threads end when `orders` is dropped. They are not joined, so that a run that is
        // stopped ends at once.
        for _ in 0..ahead.max(1) {
            let (make, ordered, done) = (Arc::clone(&make), Arc::clone(&ordered), done.clone());
            thread::spawn(move || serve(&*make, &ordered, &done));
        }
        Self { orders, made, early: BTreeMap::new(), count, next: 0, ordered: 0, ahead }
    }
}

/// Makes the jobs whose numbers arrive in `orders`, until their sender or the receiver of `done` is
/// dropped.
fn serve<T>(
    make: &dyn Fn(usize) -> T,
    orders: &Mutex<Receiver<usize>>,
    done: &Sender<(usize, thread::Result<T>)>,
) {
    loop {
        let order = orders.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(number) = order else { return };
        // A panic is passed on to the receiver, which would otherwise wait for this result forever.
        if done.send((number, catch_unwind(AssertUnwindSafe(|| make(number))))).is_err() {
            return;
        }
    }
}

impl<T> Iterator for Ahead<T> {
    type Item = T;

    /// The next result; waits for it.
    fn next(&mut self) -> Option<T> {
        let until = self.count.min(self.next + 1 + self.ahead);
        while self.ordered < until {
            self.orders.send(self.ordered).ok()?;
            self.ordered += 1;
        }
        if self.next == self.count {
            return None;
        }
        let made = loop {
            if let Some(made) = self.early.remove(&self.next) {
                break made;
            }
            let (number, made) = self.made.recv().ok()?;
            self.early.insert(number, made);
        };
        self.next += 1;
        Some(made.unwrap_or_else(|fault| resume_unwind(fault)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    #[test]
    fn results_come_in_order_and_not_far_ahead() {
        for is_idle in [false, true] {
            let started = Arc::new(AtomicUsize::new(0));
            let count = Arc::clone(&started);
            let mut ahead = Ahead::start(40, is_idle, move |number| {
                count.fetch_add(1, Ordering::SeqCst);
                // Later ones are done sooner.
                thread::sleep(Duration::from_micros(40 * (number as u64 % 5)));
                number
            });
            for expected in 0..40 {
                assert_eq!(ahead.next(), Some(expected));
                let most = expected + 1 + if is_idle { MOST } else { 0 };
                assert!(started.load(Ordering::SeqCst) <= most);
            }
            assert_eq!(ahead.next(), None);
        }
        assert_eq!(Ahead::start(0, true, |number| number).next(), None);
    }

    #[test]
    #[should_panic(expected = "a fault of number 3")]
    fn a_fault_reaches_the_taker() {
        let make = |number| assert!(number != 3, "a fault of number {number}");
        Ahead::start(9, true, make).for_each(drop);
    }
}
