//! Notes what a step uses, while one thread records it.

use std::any::Any;
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::ThreadId;

use cudarc::driver::sys::{CUdeviceptr, CUstream};

/// What a device notes of the step that is being recorded on it, if one is.
#[derive(Default)]
pub(super) struct Recorder {
    is_recording: AtomicBool,
    step: Mutex<Option<Step>>,
    turn: Mutex<()>,
}

/// The thread whose work is recorded, and where it goes.
pub(super) struct Step {
    thread: ThreadId,
    pub(super) stream: CUstream,
    /// The address of the number of tokens by which the step is later when it runs.
    pub(super) later: CUdeviceptr,
    pub(super) used: Used,
}

/// What a recorded step uses.
pub(super) struct Used {
    /// The memory it reads and writes: replaying it is sound as long as this is there.
    /// By address: a step of many sequences uses thousands of pieces, each several times.
    memory: HashMap<usize, Arc<dyn Any + Send + Sync>>,
    /// How many tokens later it may run at most: all buffers have room for so many.
    pub(super) most_later: u32,
    /// Memory that it took and has not given back.
    pub(super) held: usize,
}

impl Used {
    fn up_to(most_later: u32) -> Self {
        Self { memory: HashMap::new(), most_later, held: 0 }
    }

    /// Shares `memory` until the recording is gone.
    pub(super) fn keep<M: Any + Send + Sync>(&mut self, memory: &Arc<M>) {
        let address = Arc::as_ptr(memory).addr();
        self.memory.entry(address).or_insert_with(|| Arc::<M>::clone(memory));
    }

    /// Whether all memory that the step took is given back, so that it can run again.
    pub(super) fn is_closed(&self) -> bool {
        self.held == 0
    }
}

impl Recorder {
    /// Works with the step that the calling thread records, if it records one.
    pub(super) fn with<T>(&self, use_it: impl FnOnce(&mut Step) -> T) -> Option<T> {
        // Almost always nobody records: that is seen without a lock.
        if !self.is_recording.load(Ordering::Acquire) {
            return None;
        }
        let mut step = self.step.lock().unwrap_or_else(PoisonError::into_inner);
        let thread = std::thread::current().id();
        step.as_mut().filter(|step| step.thread == thread).map(use_it)
    }

    /// Runs `step`, whose work goes to `stream` meanwhile and finds [`Step::later`] at `later`;
    /// also returns what it used.
    pub(super) fn record<T>(
        &self,
        stream: CUstream,
        later: CUdeviceptr,
        step: impl FnOnce() -> T,
    ) -> (T, Used) {
        /// Ends the recording, also when the step panics.
        struct End<'a>(&'a Recorder);
        impl End<'_> {
            fn end(&self) -> Option<Step> {
                let step = self.0.step.lock().unwrap_or_else(PoisonError::into_inner).take();
                self.0.is_recording.store(false, Ordering::Release);
                step
            }
        }
        impl Drop for End<'_> {
            fn drop(&mut self) {
                // Outside the lock: what it kept may be freed here.
                drop(self.end());
            }
        }
        // One thread records at a time.
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let thread = std::thread::current().id();
        let used = Used::up_to(u32::MAX);
        *self.step.lock().unwrap_or_else(PoisonError::into_inner) =
            Some(Step { thread, stream, later, used });
        self.is_recording.store(true, Ordering::Release);
        let end = End(self);
        let result = step();
        let used = end.end().map_or_else(|| Used::up_to(0), |step| step.used);
        (result, used)
    }
}
