//! Attention that leaves keys out while a context is encoded: which, by which of the published
//! patterns, with their settings as one word.
//!
//! ```text
//! streaming:sink=1k:window=8k                  StreamingLLM's mask (arXiv 2309.17453)
//! minference:vertical=512:slash=2048           MInference's vertical-slash (arXiv 2407.02490)
//! flexprefill:gamma=0.95:tau=0.1:min=1k        FlexPrefill (arXiv 2502.20766)
//! xattention:stride=8:tau=0.9                  XAttention (arXiv 2503.16428)
//! blocks:block=4k:anchor=1k:previous=1         star's mask, and blocks before the own one in sight
//! ```

use super::words::{short, tokens};
use serde::{Deserialize, Serialize};
use std::fmt;

/// A pattern with its settings. The word it is written as gives it back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Sparse {
    /// The first keys and the nearest ones, whatever the text ("A-shape").
    Streaming {
        /// First keys of the text, which every query sees.
        sink: usize,
        /// Keys before a query, its own among them, that it sees.
        window: usize,
    },
    /// Per head, the keys and the distances that the last 64 queries weigh most.
    Minference {
        /// Single keys.
        vertical: usize,
        /// Distances between query and key.
        slash: usize,
    },
    /// Per head, as many key tiles and diagonals as hold a share of the last 128 queries' weight;
    /// or, in heads whose weights the mean keys foretell, the tiles that hold it.
    Flexprefill {
        /// Share of the weight that is kept.
        gamma: Share,
        /// Distance of estimate and truth below which a head goes by the estimate.
        tau: Share,
        /// Keys that every query sees at least.
        min: usize,
    },
    /// Per head and tile of queries, the tiles that hold a share of the weight by sums along
    /// antidiagonals.
    Xattention {
        /// Queries and keys of one sum: 1, 2, 4, 8, 16, 32, 64 or 128.
        stride: usize,
        /// Share of the weight that is kept.
        tau: Share,
    },
    /// As star's blocks, with those before it in sight of each: none of them is star's mask, and
    /// all of them dense attention. What blocks lose by not being read one after the other shows
    /// beside it; a block here waits for the one before, layer by layer.
    Blocks {
        /// Tokens of a block, a multiple of [`Sparse::TILE`].
        block: usize,
        /// First keys of the text, which every query sees, a multiple of [`Sparse::TILE`].
        anchor: usize,
        /// Blocks before its own that a query sees.
        previous: usize,
    },
}

/// A share from 0 to 1, in ten-thousandths.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Share(u16);

impl Share {
    /// All of it.
    pub const ALL: Self = Self(10_000);

    /// A share in ten-thousandths; `None` above 1.
    #[must_use]
    pub const fn of(ten_thousandths: u16) -> Option<Self> {
        if ten_thousandths <= Self::ALL.0 { Some(Self(ten_thousandths)) } else { None }
    }

    /// From 0 to 1.
    #[must_use]
    pub fn get(self) -> f64 {
        f64::from(self.0) / f64::from(Self::ALL.0)
    }
}

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.get())
    }
}

impl Sparse {
    /// Keys of a tile, of which a mask has all or none.
    pub const TILE: usize = 128;

    /// All patterns: the published four with the settings that the papers' tables have.
    pub const DEFAULTS: [Self; 5] = [
        Self::Streaming { sink: 1024, window: 8192 },
        Self::Minference { vertical: 512, slash: 2048 },
        Self::Flexprefill { gamma: Share(9500), tau: Share(1000), min: 1024 },
        Self::Xattention { stride: 8, tau: Share(9000) },
        Self::Blocks { block: 4096, anchor: 1024, previous: 1 },
    ];

    /// Its name on the command line and in reports.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Streaming { .. } => "streaming",
            Self::Minference { .. } => "minference",
            Self::Flexprefill { .. } => "flexprefill",
            Self::Xattention { .. } => "xattention",
            Self::Blocks { .. } => "blocks",
        }
    }

    /// The pattern of this name with its defaults.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::DEFAULTS.into_iter().find(|sparse| sparse.name().eq_ignore_ascii_case(name))
    }

    /// Its settings as a request may name them.
    #[must_use]
    pub const fn settings(self) -> &'static str {
        match self {
            Self::Streaming { .. } => "sink=TOKENS or window=TOKENS",
            Self::Minference { .. } => "vertical=KEYS or slash=DISTANCES",
            Self::Flexprefill { .. } => "gamma=SHARE, tau=SHARE or min=TOKENS",
            Self::Xattention { .. } => "stride=N or tau=SHARE",
            Self::Blocks { .. } => "block=TOKENS, anchor=TOKENS or previous=BLOCKS",
        }
    }

    /// Reads `flexprefill:gamma=0.9`.
    ///
    /// # Errors
    /// What is wrong with which part.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut parts = text.trim().split(':');
        let name = parts.next().unwrap_or_default();
        let mut sparse = Self::named(name).ok_or_else(|| {
            let names: Vec<_> = Self::DEFAULTS.iter().map(|sparse| sparse.name()).collect();
            format!("`{name}` is no pattern: expected one of {}", names.join(", "))
        })?;
        let mut seen = Vec::new();
        for setting in parts {
            let (key, value) = setting.split_once('=').unwrap_or((setting, ""));
            if seen.contains(&key) {
                return Err(format!("`{key}` is given twice"));
            }
            seen.push(key);
            sparse = sparse.with(key, value).map_err(|error| format!("`{setting}`: {error}"))?;
        }
        Ok(sparse)
    }

    /// The same with the setting `key` at `value`.
    ///
    /// # Errors
    /// If it has no such setting, or cannot have that value.
    pub fn with(self, key: &str, value: &str) -> Result<Self, String> {
        let mut sparse = self;
        match (&mut sparse, key) {
            (Self::Streaming { sink, .. }, "sink") => *sink = tokens(value)?,
            (Self::Streaming { window, .. }, "window") => *window = above_zero(value)?,
            (Self::Minference { vertical, .. }, "vertical") => *vertical = tokens(value)?,
            (Self::Minference { slash, .. }, "slash") => *slash = tokens(value)?,
            (Self::Flexprefill { gamma, .. }, "gamma") => *gamma = share(value)?,
            (Self::Flexprefill { tau, .. }, "tau") => *tau = share(value)?,
            (Self::Flexprefill { min, .. }, "min") => *min = tokens(value)?,
            (Self::Xattention { tau, .. }, "tau") => *tau = share(value)?,
            (Self::Xattention { stride, .. }, "stride") => {
                *stride = above_zero(value)?;
                if *stride > 128 || !stride.is_power_of_two() {
                    return Err("expected 1, 2, 4, 8, 16, 32, 64 or 128".to_owned());
                }
            }
            (Self::Blocks { block, .. }, "block") => *block = tiles(above_zero(value)?)?,
            (Self::Blocks { anchor, .. }, "anchor") => *anchor = tiles(tokens(value)?)?,
            (Self::Blocks { previous, .. }, "previous") => *previous = tokens(value)?,
            _ => return Err(format!("{} has {}", self.name(), self.settings())),
        }
        Ok(sparse)
    }

    /// Whether settings that came from elsewhere are such as can be given.
    pub(super) fn is_possible(self) -> bool {
        match self {
            Self::Streaming { window, .. } => window > 0,
            Self::Minference { .. } => true,
            Self::Flexprefill { gamma, tau, .. } => gamma.max(tau) <= Share::ALL,
            Self::Xattention { stride, tau } => {
                stride.is_power_of_two() && stride <= 128 && tau <= Share::ALL
            }
            Self::Blocks { block, anchor, .. } => {
                block > 0 && block.is_multiple_of(Self::TILE) && anchor.is_multiple_of(Self::TILE)
            }
        }
    }
}

impl fmt::Display for Sparse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.name();
        match *self {
            Self::Streaming { sink, window } => {
                write!(f, "{name}:sink={}:window={}", short(sink), short(window))
            }
            Self::Minference { vertical, slash } => {
                write!(f, "{name}:vertical={vertical}:slash={slash}")
            }
            Self::Flexprefill { gamma, tau, min } => {
                write!(f, "{name}:gamma={gamma}:tau={tau}:min={}", short(min))
            }
            Self::Xattention { stride, tau } => write!(f, "{name}:stride={stride}:tau={tau}"),
            Self::Blocks { block, anchor, previous } => {
                let (block, anchor) = (short(block), short(anchor));
                write!(f, "{name}:block={block}:anchor={anchor}:previous={previous}")
            }
        }
    }
}

fn above_zero(text: &str) -> Result<usize, String> {
    match tokens(text)? {
        0 => Err("expected at least 1".to_owned()),
        number => Ok(number),
    }
}

/// So many tokens, if they fill tiles.
fn tiles(tokens: usize) -> Result<usize, String> {
    match tokens % Sparse::TILE {
        0 => Ok(tokens),
        rest => Err(format!(
            "expected a multiple of {}, such as {} or {}",
            Sparse::TILE,
            tokens - rest,
            tokens - rest + Sparse::TILE
        )),
    }
}

fn share(text: &str) -> Result<Share, String> {
    match text.parse::<f64>() {
        Ok(share) if (0.0..=1.0).contains(&share) => Ok(Share((share * 1e4).round() as u16)),
        _ => Err("expected a share from 0 to 1".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_give_back_what_they_say() {
        for sparse in Sparse::DEFAULTS {
            assert_eq!(Sparse::parse(&sparse.to_string()), Ok(sparse));
            assert_eq!(Sparse::parse(sparse.name()), Ok(sparse));
        }
        let sparse = Sparse::parse("FlexPrefill:gamma=0.9:min=300").unwrap();
        assert_eq!(sparse.to_string(), "flexprefill:gamma=0.9:tau=0.1:min=300");
    }

    #[test]
    fn mistakes_are_named() {
        for (text, expected) in [
            ("quest", "streaming, minference, flexprefill, xattention, blocks"),
            ("blocks:block=1000", "a multiple of 128, such as 896 or 1024"),
            ("blocks:block=0", "at least 1"),
            ("blocks:anchor=64", "a multiple of 128"),
            ("blocks:window=64", "previous=BLOCKS"),
            ("streaming:gamma=1", "sink=TOKENS"),
            ("streaming:window=0", "at least 1"),
            ("flexprefill:gamma=1.1", "from 0 to 1"),
            ("flexprefill:gamma=nan", "from 0 to 1"),
            ("xattention:stride=3", "1, 2, 4"),
            ("minference:slash=1:slash=2", "twice"),
            ("minference:slash", "`slash`"),
        ] {
            let message = Sparse::parse(text).unwrap_err();
            assert!(message.contains(expected), "{text}: {message}");
        }
    }
}
