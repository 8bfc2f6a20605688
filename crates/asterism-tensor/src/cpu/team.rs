//! Compute threads that work on one list of tasks at a time.
//!
//! A forward pass is hundreds of short parallel loops, and decoding a token is nothing else: waking
//! a sleeping thread for each costs more than the loop. So the threads of a team watch for the next
//! loop for a while before they sleep, and a loop starts within about a microsecond. A thread that
//! comes late misses the loop; nobody waits for it.

#![allow(unsafe_code)]

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{JoinHandle, Thread};

/// How often a thread looks for the next loop before it sleeps: a fraction of a millisecond to one,
/// depending on how long the processor's pause instruction takes.
const LOOKS: u32 = 20_000;

/// A loop as its caller sees it: called with the number of the thread and of the task.
type Body<'a> = &'a (dyn Fn(usize, usize) + Sync);

/// What `Shared::state` holds: the number of the loop, whether it is open to further threads, and
/// how many threads are inside.
const OPEN: u64 = 1 << 16;
const LOOP: u64 = 1 << 17;
const INSIDE: u64 = OPEN - 1;

struct Shared {
    /// `loop number * LOOP | open * OPEN | threads inside`
    state: AtomicU64,
    /// The body of the open loop, its lifetime erased; written only while nobody is inside.
    body: std::cell::UnsafeCell<Option<Body<'static>>>,
    /// The next task of the open loop.
    next: AtomicUsize,
    /// Number of tasks of the open loop.
    tasks: AtomicUsize,
    /// What the first failing task panicked with.
    panic: Mutex<Option<Box<dyn Any + Send>>>,
    stop: AtomicBool,
    /// Per helper, whether it sleeps.
    asleep: Vec<AtomicBool>,
}

// SAFETY: all fields but `body` are Sync. `body` is written by the thread that holds the team's
// turn while the loop is closed and nobody is inside, and read only by threads that entered
// afterwards (the state is stored with Release and entered with Acquire). The body itself is Sync.
unsafe impl Sync for Shared {}
// SAFETY: as above.
unsafe impl Send for Shared {}

impl Shared {
    /// Takes tasks until there are none left. Whatever panics is kept for the caller.
    fn work(&self, thread: usize, body: Body<'_>) {
        let tasks = self.tasks.load(Ordering::Relaxed);
        let result = catch_unwind(AssertUnwindSafe(|| {
            loop {
                let task = self.next.fetch_add(1, Ordering::Relaxed);
                if task >= tasks {
                    break;
                }
                body(thread, task);
            }
        }));
        if let Err(payload) = result {
            // The others need not finish what is lost.
            self.next.store(tasks, Ordering::Relaxed);
            let mut first = self.panic.lock().unwrap_or_else(PoisonError::into_inner);
            first.get_or_insert(payload);
        }
    }

    /// Enters the open loop unless it is loop `seen`, which this thread has left before.
    fn enter(&self, seen: u64) -> Option<u64> {
        let mut state = self.state.load(Ordering::Acquire);
        while state & OPEN != 0 && state / LOOP != seen {
            match self.state.compare_exchange_weak(
                state,
                state + 1,
                Ordering::Acquire,
                Ordering::Acquire,
            ) {
                Ok(_) => return Some(state / LOOP),
                Err(now) => state = now,
            }
        }
        None
    }

    /// What helper `helper` (thread `helper + 1`) does all its life.
    fn help(&self, helper: usize) {
        let mut seen = 0;
        let mut looks = 0;
        while !self.stop.load(Ordering::Relaxed) {
            if let Some(number) = self.enter(seen) {
                seen = number;
                // SAFETY: this thread is inside an open loop: the body was written before the loop
                // opened, and is kept alive until everybody has left.
                if let Some(body) = unsafe { *self.body.get() } {
                    self.work(helper + 1, body);
                }
                self.state.fetch_sub(1, Ordering::Release);
                looks = 0;
            } else if looks < LOOKS {
                looks += 1;
                std::hint::spin_loop();
            } else {
                self.asleep[helper].store(true, Ordering::SeqCst);
                // A loop that opened before its caller could see this thread asleep is not missed.
                let state = self.state.load(Ordering::SeqCst);
                if (state & OPEN == 0 || state / LOOP == seen) && !self.stop.load(Ordering::SeqCst)
                {
                    std::thread::park();
                }
                self.asleep[helper].store(false, Ordering::SeqCst);
                looks = 0;
            }
        }
    }
}

/// The calling thread and its helpers.
pub(super) struct Team {
    shared: Arc<Shared>,
    helpers: Vec<JoinHandle<()>>,
    /// Callers take turns, loop by loop: in-process hosts and requests share one team. This mutex
    /// is handed to whoever waits longest at least once in a millisecond, so that a prefill, which
    /// asks for loop after loop, cannot starve a decode; one that always did so would have a
    /// thread woken for every short loop.
    turn: parking_lot::Mutex<()>,
}

impl Team {
    /// A team of `threads` threads: the caller and `threads - 1` helpers.
    ///
    /// # Errors
    /// If the operating system refuses a thread.
    pub(super) fn new(threads: usize) -> std::io::Result<Self> {
        let helpers = threads.saturating_sub(1);
        let shared = Arc::new(Shared {
            state: AtomicU64::new(0),
            body: std::cell::UnsafeCell::new(None),
            next: AtomicUsize::new(0),
            tasks: AtomicUsize::new(0),
            panic: Mutex::new(None),
            stop: AtomicBool::new(false),
            asleep: (0..helpers).map(|_| AtomicBool::new(false)).collect(),
        });
        let mut team = Self { shared, helpers: Vec::new(), turn: parking_lot::Mutex::new(()) };
        for helper in 0..helpers {
            let shared = Arc::clone(&team.shared);
            let name = format!("compute-{}", helper + 1);
            let builder = std::thread::Builder::new().name(name);
            team.helpers.push(builder.spawn(move || shared.help(helper))?);
        }
        Ok(team)
    }

    /// Number of threads, the caller included.
    pub(super) fn threads(&self) -> usize {
        self.helpers.len() + 1
    }

    /// Calls `body(thread, task)` once for every task in `0..tasks`, on all threads, and returns
    /// when all are done. No two calls that run at the same time have the same thread number.
    /// Nobody who waits for a turn is overtaken for longer than a millisecond.
    ///
    /// # Panics
    /// With the panic of the first task that panicked.
    pub(super) fn run(&self, tasks: usize, body: Body<'_>) {
        let turn = self.turn.lock();
        if tasks <= 1 || self.helpers.is_empty() {
            (0..tasks).for_each(|task| body(0, task));
            return;
        }
        let shared = &*self.shared;
        // SAFETY: only the lifetime changes. Nobody uses the body after this function returns: it
        // closes the loop and waits until everybody inside has left, also when a task panics.
        let erased = unsafe { std::mem::transmute::<Body<'_>, Body<'static>>(body) };
        // SAFETY: this thread has the turn, and the last loop is closed and empty.
        unsafe { *shared.body.get() = Some(erased) };
        shared.tasks.store(tasks, Ordering::Relaxed);
        shared.next.store(0, Ordering::Relaxed);
        let number = shared.state.load(Ordering::Relaxed) / LOOP + 1;
        shared.state.store((number * LOOP) | OPEN, Ordering::SeqCst);
        let sleepers = self.helpers.iter().zip(&shared.asleep);
        for (helper, _) in sleepers.filter(|(_, asleep)| asleep.load(Ordering::SeqCst)) {
            Thread::unpark(helper.thread());
        }
        shared.work(0, body);
        shared.state.fetch_and(!OPEN, Ordering::AcqRel);
        let mut looks = 0u32;
        while shared.state.load(Ordering::Acquire) & INSIDE != 0 {
            looks += 1;
            // On a busy machine the thread we wait for may have lost its core to us.
            if looks.is_multiple_of(LOOKS) {
                std::thread::yield_now();
            } else {
                std::hint::spin_loop();
            }
        }
        let panic = shared.panic.lock().unwrap_or_else(PoisonError::into_inner).take();
        drop(turn);
        if let Some(payload) = panic {
            resume_unwind(payload);
        }
    }
}

impl Drop for Team {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        for helper in self.helpers.drain(..) {
            helper.thread().unpark();
            // A helper cannot panic: tasks are caught.
            let _ = helper.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_task_runs_once_whatever_the_number_of_threads() {
        for threads in [1, 2, 5] {
            let team = Team::new(threads).unwrap();
            for tasks in [0, 1, 2, 3, 100, 1000] {
                let counts: Vec<AtomicUsize> = (0..tasks).map(|_| AtomicUsize::new(0)).collect();
                team.run(tasks, &|thread, task| {
                    assert!(thread < threads);
                    counts[task].fetch_add(1, Ordering::Relaxed);
                });
                assert!(counts.iter().all(|count| count.load(Ordering::Relaxed) == 1));
            }
        }
    }

    #[test]
    fn helpers_that_fell_asleep_come_back() {
        let team = Team::new(2).unwrap();
        for _ in 0..5 {
            std::thread::sleep(std::time::Duration::from_millis(30));
            let (both, arrived) = (AtomicBool::new(false), AtomicUsize::new(0));
            // Two tasks that wait for each other can only end on two threads.
            team.run(2, &|_, _| {
                arrived.fetch_add(1, Ordering::SeqCst);
                while arrived.load(Ordering::SeqCst) < 2 {
                    std::thread::yield_now();
                }
                both.store(true, Ordering::SeqCst);
            });
            assert!(both.load(Ordering::SeqCst));
        }
    }

    #[test]
    fn several_callers_take_turns() {
        let team = Team::new(3).unwrap();
        let busy: Vec<AtomicBool> = (0..3).map(|_| AtomicBool::new(false)).collect();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..200 {
                        team.run(7, &|thread, _| {
                            assert!(!busy[thread].swap(true, Ordering::SeqCst), "two at once");
                            busy[thread].store(false, Ordering::SeqCst);
                        });
                    }
                });
            }
        });
    }

    #[test]
    fn whoever_waits_is_not_overtaken_for_long() {
        let team = Team::new(2).unwrap();
        let (loops, done) = (AtomicUsize::new(0), AtomicBool::new(false));
        let half_a_millisecond = |_, _| {
            let start = std::time::Instant::now();
            while start.elapsed() < std::time::Duration::from_micros(500) {
                std::hint::spin_loop();
            }
        };
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        std::thread::scope(|scope| {
            // A busy machine: whoever is woken waits for a core.
            for _ in 0..2 * cores {
                scope.spawn(|| {
                    while !done.load(Ordering::SeqCst) {
                        std::hint::spin_loop();
                    }
                });
            }
            // One that asks for loop after loop, with nothing in between: a prefill.
            scope.spawn(|| {
                while !done.load(Ordering::SeqCst) {
                    team.run(2, &half_a_millisecond);
                    loops.fetch_add(1, Ordering::SeqCst);
                }
            });
            // Another that asks for a short one now and then: a decode. Who is only woken finds the
            // turn taken again and again, for tens of loops.
            let mut overtaken = 0;
            for _ in 0..60 {
                std::thread::sleep(std::time::Duration::from_millis(1));
                let before = loops.load(Ordering::SeqCst);
                team.run(2, &|_, _| ());
                overtaken = overtaken.max(loops.load(Ordering::SeqCst) - before);
            }
            done.store(true, Ordering::SeqCst);
            // The system may take the core from one that is about to ask: a few times ten loops.
            // With the library's mutex it was up to 300.
            assert!(overtaken <= 64, "overtaken by {overtaken} loops");
        });
    }

    #[test]
    fn a_panic_reaches_the_caller_and_the_team_survives() {
        for threads in [1, 3] {
            let team = Team::new(threads).unwrap();
            let result = catch_unwind(AssertUnwindSafe(|| {
                team.run(50, &|_, task| assert!(task != 20, "task {task} of 50"));
            }));
            check_panic(&team, result);
        }
    }

    fn check_panic(team: &Team, result: std::thread::Result<()>) {
        let message = result.unwrap_err();
        assert!(message.downcast_ref::<String>().unwrap().contains("task 20"));
        let done = AtomicUsize::new(0);
        team.run(50, &|_, _| {
            done.fetch_add(1, Ordering::Relaxed);
        });
        assert_eq!(done.into_inner(), 50);
    }
}
