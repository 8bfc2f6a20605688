//! Where the time of forward passes goes, when asked for.

use crate::tensor::{Backend, Buffers, TensorError};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// Parts of a forward pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Products with weights, and what is fused with them.
    Linear,
    /// Attention: keys appended, attended, merged, and messages waited for.
    Attention,
    /// Embedding, norms, rotation, rounding.
    Rest,
}

/// Time spent in each [`Stage`], of all hosts together.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct StageTimes {
    /// Of [`Stage::Linear`].
    pub linear: Duration,
    /// Of [`Stage::Attention`].
    pub attention: Duration,
    /// Of [`Stage::Rest`].
    pub rest: Duration,
}

/// Marks of one stage: its start and its end.
type Marks<B> = (Stage, <B as Buffers>::Mark, <B as Buffers>::Mark);

/// Notes when stages start and end; nothing unless it is switched on.
pub(super) struct StageClock<B: Backend>(Option<Mutex<Vec<Marks<B>>>>);

impl<B: Backend> StageClock<B> {
    pub(super) fn new(on: bool) -> Self {
        Self(on.then(Mutex::default))
    }

    /// Whether stages are timed.
    pub(super) fn is_on(&self) -> bool {
        self.0.is_some()
    }

    /// Runs `work` as part of `stage`.
    pub(super) fn time<T, E: From<TensorError>>(
        &self,
        backend: &B,
        stage: Stage,
        work: impl FnOnce() -> Result<T, E>,
    ) -> Result<T, E> {
        let Some(marks) = &self.0 else { return work() };
        let start = backend.mark()?;
        let result = work()?;
        let end = backend.mark()?;
        marks.lock().unwrap_or_else(PoisonError::into_inner).push((stage, start, end));
        Ok(result)
    }

    /// The time of all stages since this was last asked; `None` if it was not told to note it.
    pub(super) fn take(&self, backend: &B) -> Result<Option<StageTimes>, TensorError> {
        let Some(marks) = &self.0 else { return Ok(None) };
        let marks = std::mem::take(&mut *marks.lock().unwrap_or_else(PoisonError::into_inner));
        let mut times = StageTimes::default();
        for (stage, start, end) in &marks {
            let time = backend.between(start, end)?;
            match stage {
                Stage::Linear => times.linear += time,
                Stage::Attention => times.attention += time,
                Stage::Rest => times.rest += time,
            }
        }
        Ok(Some(times))
    }
}
