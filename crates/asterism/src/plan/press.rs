//! Which part of an encoded context's keys is kept.

use super::{Method, Plan, PlanError, PlanSpec};
use serde::{Deserialize, Serialize};

/// What an encoded context is pressed to before any question is seen: the keys and values that are
/// kept. Scores say which; they are computed block by block (star) or for the whole context (dense
/// on one host).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Press {
    /// Hundredths of a per cent of the keys that are kept, from 1 to [`Press::ALL`].
    pub keep: u32,
    /// How keys are scored.
    pub by: PressBy,
    /// How what is kept is shared out over the heads of a layer.
    pub heads: HeadBudget,
}

/// How keys are scored.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum PressBy {
    /// By the most that any token looks at them when the text is repeated: KVzip (arXiv
    /// 2505.23416).
    #[default]
    Kvzip,
    /// By the attention that queries like those of the context would give them from positions to
    /// come: Expected Attention (arXiv 2510.00636).
    Expected,
    /// By how far keys lie from all others, and by attention within 256 tokens without a mask:
    /// Compactor (arXiv 2507.08143).
    Compactor,
    /// By what the last tokens look at: SnapKV (arXiv 2404.14469).
    SnapKv,
    /// The same where the last tokens are those of a question, as the paper has it: a reference for
    /// evaluations, which know the question beforehand and encode it with its text. Of dense alone.
    SnapKvSeen,
    /// The last tokens, and the first: StreamingLLM (arXiv 2309.17453).
    Streaming,
    /// The shortest keys (arXiv 2406.11430).
    Knorm,
    /// Any, the same in every run.
    Random,
}

/// How what is kept is shared out over the heads of a layer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum HeadBudget {
    /// As many keys for each.
    #[default]
    Even,
    /// The best of all heads, where every head keeps a fifth of an even share: AdaKV (arXiv
    /// 2407.11550).
    Layer,
}

impl PressBy {
    /// All that need no question.
    pub const ALL: [Self; 7] = [
        Self::Kvzip,
        Self::Expected,
        Self::Compactor,
        Self::SnapKv,
        Self::Streaming,
        Self::Knorm,
        Self::Random,
    ];

    /// Its name on the command line and in reports.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Kvzip => "kvzip",
            Self::Expected => "expected",
            Self::Compactor => "compactor",
            Self::SnapKv => "snapkv",
            Self::SnapKvSeen => "snapkv-seen",
            Self::Streaming => "streaming",
            Self::Knorm => "knorm",
            Self::Random => "random",
        }
    }
}

impl HeadBudget {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::Even, Self::Layer];

    /// Its name on the command line and in reports.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Even => "even",
            Self::Layer => "layer",
        }
    }
}

impl Press {
    /// What `keep` is where nothing is given up.
    pub const ALL: u32 = 10_000;

    /// First tokens of a context that every head keeps: what a model looks at when there is nothing
    /// to look at (arXiv 2309.17453).
    pub const SINKS: usize = 4;

    /// Keeps `keep` hundredths of a per cent of the keys, by the default scores, as many of each
    /// head.
    #[must_use]
    pub const fn new(keep: u32) -> Self {
        Self { keep, by: PressBy::Kvzip, heads: HeadBudget::Even }
    }

    /// With keys scored by `by`.
    #[must_use]
    pub const fn by(self, by: PressBy) -> Self {
        Self { by, ..self }
    }

    /// With what is kept shared out over the heads of a layer as `heads` says.
    #[must_use]
    pub const fn heads(self, heads: HeadBudget) -> Self {
        Self { heads, ..self }
    }

    /// How many keys of a block of `tokens` tokens a head keeps, on average: at least the sinks, if
    /// there are as many. `None` if these are all.
    #[must_use]
    pub fn kept(self, tokens: usize) -> Option<usize> {
        let share = tokens as u128 * u128::from(self.keep) / u128::from(Self::ALL);
        let kept = (share as usize).max(Self::SINKS);
        (kept < tokens).then_some(kept)
    }

    /// The share of keys that is given up, from 0 to 1: what others call the compression ratio.
    #[must_use]
    pub fn ratio(self) -> f64 {
        1.0 - f64::from(self.keep) / f64::from(Self::ALL)
    }

    /// Checks that `spec` can be pressed so.
    pub(super) fn check(self, spec: PlanSpec) -> Result<(), PlanError> {
        if !(1..=Self::ALL).contains(&self.keep) {
            return Err(PlanError::KeepsNothing(self.keep));
        }
        match spec.method {
            Method::Star(_) if self.by == PressBy::SnapKvSeen => Err(PlanError::QuestionOfBlocks),
            Method::Star(_) => Ok(()),
            Method::Dense if spec.hosts == 1 => Ok(()),
            method => Err(PlanError::NotPressed { method: method.name(), hosts: spec.hosts }),
        }
    }
}

/// As it may be given with a method: `keep=50%:press=kvzip`.
impl std::fmt::Display for Press {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "keep={}%:press={}", f64::from(self.keep) / 100.0, self.by.name())?;
        match self.heads {
            HeadBudget::Even => Ok(()),
            heads => write!(f, ":heads={}", heads.name()),
        }
    }
}

impl PlanSpec {
    /// The same, with its keys pressed as `press` says.
    #[must_use]
    pub const fn press(self, press: Option<Press>) -> Self {
        Self { press, ..self }
    }
}

impl Plan {
    /// How many keys of a block, or share, of `tokens` tokens a head keeps, on average; `None` if
    /// all are kept.
    #[must_use]
    pub fn kept(&self, tokens: usize) -> Option<usize> {
        self.spec.press.and_then(|press| press.kept(tokens))
    }

    /// Keys of the context that a head keeps, on average.
    #[must_use]
    pub fn kept_tokens(&self) -> usize {
        let kept = |tokens: usize| self.kept(tokens).unwrap_or(tokens);
        self.hosts.iter().flatten().map(|span| kept(span.len)).sum()
    }

    /// Whether the text passes through the model a second time, to score its keys.
    #[must_use]
    pub fn repeats(&self, tokens: usize) -> bool {
        let press = self.spec.press.filter(|press| press.kept(tokens).is_some());
        press.is_some_and(|press| press.by == PressBy::Kvzip)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::Star;

    #[test]
    fn a_share_of_every_block_is_kept_and_the_sinks() {
        let kept = |keep: u32, tokens| Press::new(keep).kept(tokens);
        assert_eq!(kept(5000, 4096), Some(2048));
        assert_eq!(kept(2500, 7), Some(4), "the sinks");
        assert_eq!(kept(5000, 9), Some(4));
        assert_eq!(kept(3333, 1000), Some(333));
        assert_eq!(kept(Press::ALL, 4096), None);
        assert_eq!(kept(1, 4), None, "a block of sinks");
        let spec = Star::new(100).hosts(3).press(Some(Press::new(2500)));
        let plan = Plan::new(spec, 1010).unwrap();
        assert_eq!(plan.kept_tokens(), 10 * 25 + 4);
        assert_eq!(Plan::new(Star::new(100), 1010).unwrap().kept_tokens(), 1010);
    }

    #[test]
    fn only_keys_that_lie_together_are_pressed() {
        let press = |spec: PlanSpec, keep| Plan::new(spec.press(Some(Press::new(keep))), 1000);
        assert!(press(PlanSpec::dense(), 2500).is_ok());
        for spec in [PlanSpec::dense().hosts(2), PlanSpec::ring(), PlanSpec::zigzag().hosts(4)] {
            let error = press(spec, 2500).unwrap_err();
            assert!(matches!(error, PlanError::NotPressed { .. }), "{error}");
        }
        let seen = Press::new(2500).by(PressBy::SnapKvSeen);
        assert!(Plan::new(PlanSpec::dense().press(Some(seen)), 1000).is_ok());
        let of_blocks = Plan::new(Star::new(100).hosts(1).press(Some(seen)), 1000);
        assert_eq!(of_blocks, Err(PlanError::QuestionOfBlocks));
        for keep in [0, Press::ALL + 1] {
            assert_eq!(press(PlanSpec::dense(), keep), Err(PlanError::KeepsNothing(keep)));
        }
    }

    #[test]
    fn it_is_shown_as_it_may_be_given() {
        let press = Press::new(1250).by(PressBy::SnapKv);
        assert_eq!(press.to_string(), "keep=12.5%:press=snapkv");
        let press = press.heads(HeadBudget::Layer);
        assert_eq!(press.to_string(), "keep=12.5%:press=snapkv:heads=layer");
    }
}
