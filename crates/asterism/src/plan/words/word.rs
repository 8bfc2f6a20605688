//! A method with its settings in one word.
//!
//! ```text
//! METHOD[:SETTING=VALUE]...      dense, ring, zigzag, star, star:block=4k:anchor=1k, or a pattern
//!                                that leaves keys out, as flexprefill:gamma=0.9 (`plan::Sparse`)
//! block=SIZE                     tokens, or a share of the context (1/4); `Defaults` if not given
//! anchor=SIZE|full|none          tokens, or a share of the block; `Defaults` if not given
//! anchor-kv=shared|recompute|auto  shared if not given
//! anchor-content=CONTENT         first, constant, random, shuffled or previous; first if not given
//! anchor-at=PLACE                first, previous or random; first if not given
//! revisit=N|P%|auto|none         tokens computed anew for each question; none if not given
//! revisit-by=CHOICE              which: question, random, first, late, largest, tokens, rounds or
//!                                values; question if not given
//! keep=P%                        keys and values that are kept; 100% if not given
//! press=SCORE                    which: kvzip, expected, compactor, snapkv, streaming, knorm or
//!                                random; kvzip if not given; of dense also snapkv-seen, where
//!                                the question is encoded with its text: a reference
//! heads=even|layer               as many of each head, or the best of all; even if not given
//! sparse=PATTERN                 keys left out within blocks; the pattern's settings may follow
//! ```
//!
//! The settings are those of star; dense has keep, press and heads, patterns have their own, and
//! the other methods have none. An anchor of other content or at another place than the first is
//! recomputed.

use super::{Defaults, MethodName, Size, keep, named, revisit, short};
use crate::plan::{
    AnchorContent, AnchorKv, AnchorPlace, AnchorPolicy, HeadBudget, Method, PlanSpec, Press,
    PressBy, Revisit, RevisitBy, Sparse, Star,
};
use std::fmt;

/// Settings that dense has, too.
const PRESS: [&str; 3] = ["keep", "press", "heads"];

/// How a context is to be encoded, before its length is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MethodWord {
    method: MethodName,
    block: Option<Size>,
    anchor: Option<Size>,
    anchor_kv: AnchorKv,
    anchor_policy: AnchorPolicy,
    revisit: Revisit,
    revisit_by: RevisitBy,
    sparse: Option<Sparse>,
    press: Option<Press>,
}

impl MethodWord {
    /// Reads a method and its settings.
    ///
    /// # Errors
    /// Says what is wrong with which part.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut parts = text.trim().split(':');
        let name = parts.next().unwrap_or_default();
        let method = match Sparse::named(name) {
            Some(_) => {
                return Sparse::parse(text).map(|sparse| Self::of(MethodName::Sparse(sparse)));
            }
            None => MethodName::parse(name)?,
        };
        let mut spec = Self::of(method);
        let mut seen = Vec::new();
        for setting in parts {
            let (key, value) = setting.split_once('=').unwrap_or((setting, ""));
            let presses = PRESS.contains(&key) && method == MethodName::Dense;
            if method != MethodName::Star && !presses {
                return Err(format!("`{setting}`: {method} has no such setting, only star has"));
            }
            if seen.contains(&key) {
                return Err(format!("`{key}` is given twice"));
            }
            seen.push(key);
            spec.set(key, value).map_err(|error| format!("`{setting}`: {error}"))?;
        }
        if !spec.anchor_policy.is_paper() {
            if spec.anchor == Some(Size::NOTHING) {
                return Err("without an anchor, it has neither content nor place".to_owned());
            }
            if seen.contains(&"anchor-kv") && spec.anchor_kv != AnchorKv::Recompute {
                let why = "the first block does not have such an anchor: it is recomputed";
                return Err(format!("`anchor-kv`: {why}"));
            }
            spec.anchor_kv = AnchorKv::Recompute;
        }
        if spec.press.is_some_and(|press| press.keep == Press::ALL) {
            if let Some(key) = seen.iter().find(|key| ["press", "heads"].contains(*key)) {
                return Err(format!("`{key}`: all keys are kept without `keep=…`"));
            }
            spec.press = None;
        }
        if seen.contains(&"revisit-by") && spec.revisit == Revisit::None {
            return Err("`revisit-by`: nothing is revisited without `revisit=…`".to_owned());
        }
        Ok(spec)
    }

    /// `method`, of whose settings nothing is said.
    #[must_use]
    pub fn of(method: MethodName) -> Self {
        Self {
            method,
            block: None,
            anchor: None,
            anchor_kv: AnchorKv::Shared,
            anchor_policy: AnchorPolicy::default(),
            revisit: Revisit::None,
            revisit_by: RevisitBy::default(),
            sparse: None,
            press: None,
        }
    }

    /// With blocks of this size.
    #[must_use]
    pub fn block(self, size: Size) -> Self {
        Self { block: Some(size), ..self }
    }

    /// With an anchor of this size, a share being of the block.
    #[must_use]
    pub fn anchor(self, size: Size) -> Self {
        Self { anchor: Some(size), ..self }
    }

    /// With so much computed anew for each question.
    #[must_use]
    pub fn revisit(self, revisit: Revisit) -> Self {
        Self { revisit, ..self }
    }

    fn set(&mut self, key: &str, value: &str) -> Result<(), String> {
        match (key, value) {
            ("block", value) => self.block = Some(Size::parse(value)?),
            ("anchor", "full") => self.anchor = Some(Size::ALL),
            ("anchor", "none") => self.anchor = Some(Size::NOTHING),
            ("anchor", value) => {
                let size = Size::parse(value).map_err(|e| format!("{e}, or full, or none"))?;
                self.anchor = Some(size);
            }
            ("anchor-kv", value) => self.anchor_kv = named(&AnchorKv::ALL, AnchorKv::name, value)?,
            ("anchor-content", value) => {
                self.anchor_policy.content =
                    named(&AnchorContent::ALL, AnchorContent::name, value)?;
            }
            ("anchor-at", value) => {
                self.anchor_policy.place = named(&AnchorPlace::ALL, AnchorPlace::name, value)?;
            }
            ("revisit", value) => self.revisit = revisit(value)?,
            ("revisit-by", value) => {
                self.revisit_by = named(&RevisitBy::ALL, RevisitBy::name, value)?;
            }
            ("keep" | "press" | "heads", value) => {
                let press = self.press.get_or_insert(Press::new(Press::ALL));
                match key {
                    "keep" => press.keep = keep(value)?,
                    "press" if value == PressBy::SnapKvSeen.name() => {
                        press.by = PressBy::SnapKvSeen;
                    }
                    "press" => press.by = named(&PressBy::ALL, PressBy::name, value)?,
                    _ => press.heads = named(&HeadBudget::ALL, HeadBudget::name, value)?,
                }
            }
            ("sparse", "none") => self.sparse = None,
            ("sparse", name) => self.sparse = Some(Sparse::parse(name)?),
            (key, value) => match self.sparse {
                Some(sparse) => self.sparse = Some(sparse.with(key, value)?),
                None => {
                    let all = "block=…, anchor=…, anchor-kv=…, anchor-content=…, anchor-at=…, \
                               revisit=…, revisit-by=…, keep=…, press=…, heads=… or sparse=…";
                    return Err(format!("expected {all}"));
                }
            },
        }
        Ok(())
    }

    /// The method for a context of `tokens` tokens, with `defaults` for what was not said.
    #[must_use]
    pub fn method(&self, tokens: usize, defaults: Defaults) -> Method {
        let block = self.block.map_or_else(|| defaults.block(tokens), |size| size.of(tokens));
        let anchor = self.anchor.map_or_else(|| defaults.anchor(block), |size| size.of(block));
        let Self { method, anchor_kv, anchor_policy, revisit, revisit_by, sparse, .. } = *self;
        method.with(Star { block, anchor, anchor_kv, anchor_policy, revisit, revisit_by, sparse })
    }

    /// The same on `hosts` hosts, and what its keys are pressed to.
    #[must_use]
    pub fn plan_spec(&self, tokens: usize, hosts: usize, defaults: Defaults) -> PlanSpec {
        PlanSpec::from(self.method(tokens, defaults)).hosts(hosts).press(self.press)
    }

    /// The method without its settings.
    #[must_use]
    pub fn name(&self) -> MethodName {
        self.method
    }

    /// What the context's keys are pressed to, if not all are kept.
    #[must_use]
    pub fn press(&self) -> Option<Press> {
        self.press
    }
}

/// As it may be given where [`Defaults::Paper`] fills in, with all defaults but the block's left
/// out.
impl fmt::Display for MethodWord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.method)?;
        let press = |f: &mut fmt::Formatter<'_>| match self.press {
            Some(press) => write!(f, ":{press}"),
            None => Ok(()),
        };
        if self.method != MethodName::Star {
            return press(f);
        }
        write!(f, ":block={}", self.block.unwrap_or(Size::Tokens(Defaults::Paper.block(0))))?;
        match self.anchor {
            None | Some(Size::ALL) => {}
            Some(Size::NOTHING) => write!(f, ":anchor=none")?,
            Some(anchor) => write!(f, ":anchor={anchor}")?,
        }
        let AnchorPolicy { content, place, .. } = self.anchor_policy;
        match self.anchor_kv {
            AnchorKv::Recompute if self.anchor_policy.is_paper() => {
                write!(f, ":anchor-kv=recompute")?;
            }
            AnchorKv::Auto => write!(f, ":anchor-kv=auto")?,
            AnchorKv::Shared | AnchorKv::Recompute => {}
        }
        if content != AnchorContent::default() {
            write!(f, ":anchor-content={}", content.name())?;
        }
        if place != AnchorPlace::default() {
            write!(f, ":anchor-at={}", place.name())?;
        }
        match self.revisit {
            Revisit::None => {}
            Revisit::Auto => write!(f, ":revisit=auto")?,
            Revisit::Tokens(tokens) => write!(f, ":revisit={}", short(tokens))?,
            Revisit::Share(hundredths) => {
                write!(f, ":revisit={}%", f64::from(hundredths) / 100.0)?;
            }
        }
        if self.revisit_by != RevisitBy::default() {
            write!(f, ":revisit-by={}", self.revisit_by.name())?;
        }
        press(f)?;
        if let Some(sparse) = self.sparse {
            write!(f, ":sparse={sparse}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(text: &str, tokens: usize) -> PlanSpec {
        MethodWord::parse(text).unwrap().plan_spec(tokens, 2, Defaults::Paper)
    }

    fn star(text: &str, tokens: usize) -> Star {
        plan(text, tokens).method.as_star().unwrap()
    }

    #[test]
    fn every_method_has_its_defaults() {
        for method in ["star", "ring", "zigzag", "dense"] {
            assert_eq!(plan(method, 100).method.name(), method);
            assert_eq!(plan(method, 100).hosts, 2);
        }
        let star = star("star", 100_000);
        assert_eq!((star.block, star.anchor), (4096, 4096));
        assert_eq!(star.anchor_kv, AnchorKv::Shared);
    }

    #[test]
    fn sizes_are_tokens_or_shares() {
        let star = star("star:block=1/4:anchor=1/2:anchor-kv=recompute", 16_384);
        assert_eq!((star.block, star.anchor), (4096, 2048));
        assert_eq!(star.anchor_kv, AnchorKv::Recompute);
        assert_eq!(self::star("star:block=8k:anchor=1k", 5).anchor, 1024);
        assert_eq!(self::star("star:anchor=none", 5).anchor, 0);
        // Rounded up, so that a quarter gives four blocks and not five.
        assert_eq!(self::star("star:block=1/4", 1001).block, 251);
    }

    #[test]
    fn another_anchor_is_recomputed() {
        let star = star("star:anchor-content=Shuffled:anchor-at=previous:anchor=1k", 100_000);
        let AnchorPolicy { content, place, .. } = star.anchor_policy;
        assert_eq!((content, place), (AnchorContent::Shuffled, AnchorPlace::Previous));
        assert_eq!((star.anchor, star.anchor_kv), (1024, AnchorKv::Recompute));
        let paper = plan("star:anchor-content=first:anchor-at=first", 100_000);
        assert_eq!(paper, plan("star", 100_000));
    }

    #[test]
    fn what_is_not_said_is_as_the_defaults_have_it() {
        let of = |text: &str, tokens| {
            let method = MethodWord::parse(text).unwrap().method(tokens, Defaults::Any);
            method.as_star().map(|star| (star.block, star.anchor)).unwrap()
        };
        assert_eq!(of("star", 300), (1024, 256));
        assert_eq!(of("star", 16_385), (4097, 1024));
        assert_eq!(of("star", 1 << 20), (32_768, 8192));
        assert_eq!(of("star:block=512", 9000), (512, 128));
        assert_eq!(of("star:anchor=7", 8192), (2048, 7));
        assert_eq!(of("star:block=1/2:anchor=full", 8192), (4096, 4096));
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
            "star:block=4k:anchor-content=constant",
            "star:block=1/4:anchor=1k:anchor-content=random:anchor-at=random",
            "star:block=4k:anchor=1k:revisit=2k",
            "star:block=1/8:anchor-kv=recompute:revisit=2.5%",
            "star:block=4k:revisit=auto",
            "star:block=4k:revisit=2k:revisit-by=random",
            "star:block=4k:anchor=1k:revisit=2k:revisit-by=rounds",
            "star:block=16k:sparse=flexprefill:gamma=0.9:tau=0.1:min=1k",
            "star:block=4k:anchor=1k:sparse=streaming:sink=0:window=512",
            "xattention:stride=16:tau=0.9",
            "star:block=16k:keep=50%:press=kvzip",
            "star:block=1/4:revisit=auto:keep=12.5%:press=snapkv:heads=layer",
            "dense:keep=25%:press=expected",
            "dense:keep=25%:press=snapkv-seen",
        ] {
            let spec = MethodWord::parse(text).unwrap();
            assert_eq!(spec.to_string(), text);
            assert_eq!(MethodWord::parse(&spec.to_string()), Ok(spec));
        }
        assert_eq!(MethodWord::parse("Star:anchor=full").unwrap().to_string(), "star:block=4k");
    }

    #[test]
    fn mistakes_are_named() {
        for (text, expected) in [
            ("", "no method"),
            ("sparse", "sparse"),
            ("sparse", "xattention"),
            ("xattention:block=4k", "stride=N"),
            ("star:sparse=quest", "flexprefill"),
            ("star:gamma=0.9:sparse=flexprefill", "sparse=…"),
            ("star:sparse=flexprefill:stride=8", "gamma=SHARE"),
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
            ("star:anchor-content=last", "first, constant, random, shuffled, previous"),
            ("star:revisit=many", "such as 5%"),
            ("ring:revisit=4k", "only star"),
            ("star:revisit-by=first", "nothing is revisited"),
            ("star:revisit=1k:revisit-by=last", "question, random, first"),
            ("star:anchor-at=end", "first, previous, random"),
            ("star:anchor-at=random:anchor-kv=shared", "recomputed"),
            ("star:anchor-at=random:anchor=none", "without an anchor"),
            ("dense:anchor-at=first", "only star"),
            ("dense:keep=0%", "above 0%"),
            ("dense:keep=half", "such as 50%"),
            ("ring:keep=50%", "only star"),
            ("star:press=knorm", "all keys are kept"),
            ("star:keep=100%:heads=layer", "all keys are kept"),
            ("star:keep=50%:press=h2o", "kvzip, expected"),
            ("star:keep=50%:heads=all", "even, layer"),
        ] {
            let message = MethodWord::parse(text).unwrap_err();
            assert!(message.contains(expected), "{text}: {message}");
        }
    }
}
