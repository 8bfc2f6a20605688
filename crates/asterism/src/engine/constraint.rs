//! Answers that have to follow rules: a grammar, a schema.

/// What answers have to follow. Each of them is followed by a [`Follower`] of its own.
pub trait Constraint: Send + Sync + std::fmt::Debug {
    /// What follows an answer from its first token on.
    fn begin(&self) -> Box<dyn Follower>;
}

/// What says, token by token, which ones may come next in one answer. It runs between the steps of
/// all answers: the others wait for it.
pub trait Follower: Send {
    /// Sets to minus infinity the logits `[tokens]` of all tokens that may not come next. At least
    /// one must be left.
    ///
    /// # Errors
    /// What is wrong, in words for whoever gave the rules. The answer then ends with it.
    fn forbid(&mut self, logits: &mut [f32]) -> Result<(), String>;

    /// `token` was chosen.
    ///
    /// # Errors
    /// As [`Follower::forbid`].
    fn take(&mut self, token: u32) -> Result<(), String>;
}
