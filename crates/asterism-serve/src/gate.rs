//! How many requests are let in, and how long the last ones took.

use crate::error::{ApiError, ApiResult};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Lets a bounded number of requests in at a time.
#[derive(Debug)]
pub(crate) struct Gate {
    places: Arc<Semaphore>,
    all: usize,
    closed: AtomicBool,
    /// A moving mean of how long requests take.
    mean: Mutex<Duration>,
}

/// A request's place; it is free again when this is dropped.
#[derive(Debug)]
pub(crate) struct Place {
    gate: Arc<Gate>,
    since: Instant,
    _permit: OwnedSemaphorePermit,
}

impl Gate {
    /// A gate that lets `places` requests in.
    pub(crate) fn new(places: usize) -> Self {
        Self {
            places: Arc::new(Semaphore::new(places)),
            all: places,
            closed: AtomicBool::new(false),
            mean: Mutex::new(Duration::from_secs(1)),
        }
    }

    /// A place, if there is one.
    ///
    /// # Errors
    /// 429 if there is none, 503 if the gate is closed.
    pub(crate) fn enter(self: &Arc<Self>) -> ApiResult<Place> {
        if self.is_closed() {
            return Err(ApiError::stopping());
        }
        let permit = Arc::clone(&self.places).try_acquire_owned();
        let permit = permit.map_err(|_| ApiError::busy(self.all, self.retry_after()))?;
        Ok(Place { gate: Arc::clone(self), since: Instant::now(), _permit: permit })
    }

    /// Requests inside.
    pub(crate) fn inside(&self) -> usize {
        self.all - self.places.available_permits()
    }

    /// Nobody is let in any more.
    pub(crate) fn close(&self) {
        self.closed.store(true, Ordering::Release);
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    /// Seconds after which a place is likely to be free.
    fn retry_after(&self) -> u64 {
        let mean = *self.mean.lock().unwrap_or_else(PoisonError::into_inner);
        mean.as_secs().clamp(1, 60)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut mean = self.gate.mean.lock().unwrap_or_else(PoisonError::into_inner);
        *mean = (*mean * 7 + self.since.elapsed()) / 8;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_so_many_places_and_no_more() {
        let gate = Arc::new(Gate::new(2));
        let first = gate.enter().unwrap();
        let second = gate.enter().unwrap();
        assert_eq!((gate.enter().unwrap_err().code(), gate.inside()), ("queue_full", 2));
        drop(first);
        drop(gate.enter().unwrap());
        gate.close();
        assert_eq!(gate.enter().unwrap_err().code(), "stopping");
        drop(second);
        assert_eq!(gate.inside(), 0);
    }
}
