//! A method with its settings in one word, for commands that run several of them.
//!
//! ```text
//! METHOD[:SETTING=VALUE]...      dense, ring, zigzag, star, star:block=4k:anchor=1k
//! block=SIZE                     tokens, or a share of the context (1/4); 4k if not given
//! anchor=SIZE|full|none          tokens, or a share of the block; full if not given
//! anchor-kv=shared|recompute     shared if not given
//! ```
//!
//! The settings are those of star: the other methods have none.

use super::args::{self, AnchorKvName, MethodName};
use asterism::plan::{AnchorKv, Method, PlanSpec};
use clap::ValueEnum;
use std::fmt;
use std::num::NonZeroUsize;

/// A number of tokens, or a share of something known later.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Size {
    Tokens(usize),
    /// `part / whole` of it, rounded up; `part` is from 1 to `whole`.
    Share(usize, NonZeroUsize),
}

const ALL: Size = Size::Share(1, NonZeroUsize::MIN);
const NOTHING: Size = Size::Tokens(0);
const DEFAULT_BLOCK: Size = Size::Tokens(4096);

impl Size {
    fn parse(text: &str) -> Result<Self, String> {
        let Some((part, whole)) = text.split_once('/') else {
            let hint = |error| format!("{error}, or a share such as 1/4");
            return args::tokens(text).map(Self::Tokens).map_err(hint);
        };
        match (part.parse(), whole.parse::<NonZeroUsize>()) {
            (Ok(part), Ok(whole)) if (1..=whole.get()).contains(&part) => {
                Ok(Self::Share(part, whole))
            }
            _ => Err("expected a share above 0 and up to 1, such as 1/4".to_owned()),
        }
    }

    fn of(self, all: usize) -> usize {
        match self {
            Self::Tokens(tokens) => tokens,
            Self::Share(part, whole) => (all * part).div_ceil(whole.get()),
        }
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Tokens(tokens) => f.write_str(&short(tokens)),
            Self::Share(part, whole) => write!(f, "{part}/{whole}"),
        }
    }
}

/// `4k` where that is exact, otherwise all digits: the inverse of [`args::tokens`].
pub(crate) fn short(tokens: usize) -> String {
    match tokens {
        n if n > 0 && n.is_multiple_of(1 << 20) => format!("{}m", n >> 20),
        n if n > 0 && n.is_multiple_of(1 << 10) => format!("{}k", n >> 10),
        n => n.to_string(),
    }
}

/// How a context is to be encoded, before its length is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct MethodSpec {
    method: Method,
    block: Size,
    anchor: Size,
    anchor_kv: AnchorKv,
}

impl MethodSpec {
    /// Reads the syntax above. The error says what is wrong with which part.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let mut parts = text.trim().split(':');
        let name = parts.next().unwrap_or_default();
        let method: Method = MethodName::from_str(name, true)
            .map_err(|_| {
                let known = Method::ALL.map(Method::name).join(", ");
                format!("`{name}` is no method: expected one of {known}")
            })?
            .into();
        let mut spec =
            Self { method, block: DEFAULT_BLOCK, anchor: ALL, anchor_kv: AnchorKv::Shared };
        let mut seen = Vec::new();
        for setting in parts {
            let (key, value) = setting.split_once('=').unwrap_or((setting, ""));
            if method != Method::Star {
                return Err(format!("`{setting}`: {method} has no settings, only star has"));
            }
            if seen.contains(&key) {
                return Err(format!("`{key}` is given twice"));
            }
            seen.push(key);
            spec.set(key, value).map_err(|error| format!("`{setting}`: {error}"))?;
        }
        Ok(spec)
    }

    fn set(&mut self, key: &str, value: &str) -> Result<(), String> {
        match (key, value) {
            ("block", value) => self.block = Size::parse(value)?,
            ("anchor", "full") => self.anchor = ALL,
            ("anchor", "none") => self.anchor = NOTHING,
            ("anchor", value) => {
                self.anchor = Size::parse(value).map_err(|e| format!("{e}, or full, or none"))?;
            }
            ("anchor-kv", value) => {
                let name = AnchorKvName::from_str(value, true)
                    .map_err(|_| "expected shared or recompute".to_owned())?;
                self.anchor_kv = name.into();
            }
            _ => return Err("expected block=…, anchor=… or anchor-kv=…".to_owned()),
        }
        Ok(())
    }

    /// The settings for a context of `tokens` tokens on `hosts` hosts.
    pub(crate) fn plan_spec(&self, tokens: usize, hosts: usize) -> PlanSpec {
        let block = self.block.of(tokens);
        let (method, anchor, anchor_kv) = (self.method, self.anchor.of(block), self.anchor_kv);
        PlanSpec { method, block, anchor, anchor_kv, hosts }
    }

    /// The method without its settings.
    pub(crate) fn method(&self) -> Method {
        self.method
    }
}

/// As it may be given, with the defaults of anchor and anchor-kv left out.
impl fmt::Display for MethodSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.method)?;
        if self.method != Method::Star {
            return Ok(());
        }
        write!(f, ":block={}", self.block)?;
        match self.anchor {
            ALL => {}
            NOTHING => write!(f, ":anchor=none")?,
            anchor => write!(f, ":anchor={anchor}")?,
        }
        if self.anchor_kv == AnchorKv::Recompute {
            write!(f, ":anchor-kv=recompute")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(text: &str, tokens: usize) -> PlanSpec {
        MethodSpec::parse(text).unwrap().plan_spec(tokens, 2)
    }

    #[test]
    fn every_method_has_its_defaults() {
        for method in Method::ALL {
            assert_eq!(plan(method.name(), 100).method, method);
        }
        let star = plan("star", 100_000);
        assert_eq!((star.block, star.anchor, star.hosts), (4096, 4096, 2));
        assert_eq!(star.anchor_kv, AnchorKv::Shared);
    }

    #[test]
    fn sizes_are_tokens_or_shares() {
        let star = plan("star:block=1/4:anchor=1/2:anchor-kv=recompute", 16_384);
        assert_eq!((star.block, star.anchor), (4096, 2048));
        assert_eq!(star.anchor_kv, AnchorKv::Recompute);
        assert_eq!(plan("star:block=8k:anchor=1k", 5).anchor, 1024);
        assert_eq!(plan("star:anchor=none", 5).anchor, 0);
        // Rounded up, so that a quarter gives four blocks and not five.
        assert_eq!(plan("star:block=1/4", 1001).block, 251);
    }

    #[test]
    fn shown_as_it_may_be_given() {
        for text in [
            "dense",
            "ring",
            "zigzag",
            "star:block=4k",
            "star:block=1/4:anchor=1/8",
            "star:block=100:anchor=none:anchor-kv=recompute",
        ] {
            let spec = MethodSpec::parse(text).unwrap();
            assert_eq!(spec.to_string(), text);
            assert_eq!(MethodSpec::parse(&spec.to_string()), Ok(spec));
        }
        assert_eq!(MethodSpec::parse("Star:anchor=full").unwrap().to_string(), "star:block=4k");
    }

    #[test]
    fn mistakes_are_named() {
        for (text, expected) in [
            ("", "no method"),
            ("sparse", "sparse"),
            ("ring:block=4k", "only star"),
            ("star:blok=4k", "blok=4k"),
            ("star:block", "`block`"),
            ("star:block=4q", "4q"),
            ("star:block=3/2", "3/2"),
            ("star:block=0/2", "0/2"),
            ("star:block=1/0", "1/0"),
            ("star:block=4k:block=8k", "twice"),
            ("star:anchor=half", "none"),
            ("star:anchor-kv=copied", "recompute"),
        ] {
            let message = MethodSpec::parse(text).unwrap_err();
            assert!(message.contains(expected), "{text}: {message}");
        }
    }
}
