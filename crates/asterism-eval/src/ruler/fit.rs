//! How much haystack fits into a length: the search for the number of units, and the samples of
//! that size.

use serde_json::{Map, Value};

use crate::random::{NumpyRandom, PythonRandom};
use crate::{CountTokens, EvalError, Sample};

/// Both of Python's generators, as the reference seeds them.
#[derive(Debug, Clone)]
pub(super) struct Draws {
    pub(super) python: PythonRandom,
    pub(super) numpy: NumpyRandom,
}

impl Draws {
    pub(super) fn new(seed: u32) -> Self {
        Self { python: PythonRandom::new(seed.into()), numpy: NumpyRandom::new(seed) }
    }
}

/// A sample before it is known to fit.
#[derive(Debug, Clone, Default)]
pub(super) struct Draft {
    pub(super) context: String,
    pub(super) query: String,
    pub(super) outputs: Vec<String>,
    pub(super) extra: Map<String, Value>,
    /// Further questions about the same context.
    pub(super) more: Vec<Question>,
}

/// A question about a context that is there.
#[derive(Debug, Clone, Default)]
pub(super) struct Question {
    pub(super) query: String,
    pub(super) outputs: Vec<String>,
    pub(super) extra: Map<String, Value>,
}

/// A family of tasks: how a sample of some size is drawn, and what of it counts against the length.
pub(super) trait Family {
    /// Sizes tried: this one, then further by [`step`](Self::step).
    fn first(&self) -> usize {
        self.step()
    }
    /// The smallest size: the first one, or all the material where there is less.
    fn least(&self) -> usize {
        self.first().min(self.most().unwrap_or(usize::MAX))
    }
    /// Units of haystack between two sizes.
    fn step(&self) -> usize;
    /// The largest size there is material for.
    fn most(&self) -> Option<usize> {
        None
    }
    /// Tokens kept free for the answer, and for what [`finish`](Self::finish) adds.
    fn reserved(&self) -> usize;
    /// A sample with `units` units of haystack.
    fn draw(&self, draws: &mut Draws, index: usize, units: usize) -> Result<Draft, EvalError>;
    /// The text whose tokens are counted: the whole sample.
    fn counted(&self, draft: &Draft) -> String {
        format!("{}{}", draft.context, draft.query)
    }
    /// The text whose tokens are counted while the size is searched: in some variants with the
    /// answer.
    fn counted_in_search(&self, draft: &Draft) -> String {
        self.counted(draft)
    }
    /// Whether another try at a smaller size draws anew, rather than the same sample with less
    /// haystack.
    fn redraws(&self) -> bool {
        true
    }
    /// A sample as it is tried while the size is searched.
    fn draw_trial(&self, draws: &mut Draws, units: usize) -> Result<Draft, EvalError> {
        self.draw(draws, 0, units)
    }
    /// Tokens kept free while the size is searched.
    fn reserved_in_search(&self) -> usize {
        self.reserved()
    }
    /// The size from which upstream estimates how far its search has to go, where samples are to be
    /// drawn exactly as it draws them.
    fn probe(&self) -> Option<usize> {
        None
    }
    /// The size at which upstream's search begins to halve, from the tokens per unit of the probe.
    fn guess(&self, length: usize, tokens_per_unit: f64) -> usize {
        (length as f64 / tokens_per_unit * 3.0) as usize
    }
    /// Whether a size that fills the length exactly is too large.
    fn strict(&self) -> bool {
        false
    }
    /// The `length` to record for a sample whose counted text takes `budgeted` tokens with what is
    /// reserved.
    fn length(
        &self,
        _draft: &Draft,
        budgeted: usize,
        _: &dyn CountTokens,
    ) -> Result<usize, EvalError> {
        Ok(budgeted)
    }
    /// The sample that fits, with what is drawn only once it does.
    fn finish(&self, _draws: &mut Draws, draft: Draft) -> Draft {
        draft
    }
}

/// How the number of units is found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Search {
    /// By interpolation, on copies of the random generator: a handful of trial samples at any
    /// length.
    #[default]
    Fast,
    /// As the variant's own scripts search, every trial taking its draws: step by step for the star
    /// variants, by halving for upstream. The samples are then the scripts', draw for draw. Takes
    /// minutes at long lengths. `clean` has no scripts and goes step by step.
    Reference,
}

/// A length to fill and what counts its tokens.
#[derive(Clone, Copy)]
pub(super) struct Budget<'a> {
    pub(super) task: &'a str,
    /// Tokens, the generated ones included.
    pub(super) length: usize,
    pub(super) counter: &'a dyn CountTokens,
}

impl Budget<'_> {
    fn too_short(&self, least: usize) -> EvalError {
        EvalError::TooShort { task: self.task.to_owned(), length: self.length, least }
    }

    /// Tokens of a trial sample of `units` units.
    fn trial(
        &self,
        family: &dyn Family,
        draws: &mut Draws,
        units: usize,
    ) -> Result<usize, EvalError> {
        let draft = family.draw_trial(draws, units)?;
        Ok(self.counter.count(&family.counted_in_search(&draft))? + family.reserved_in_search())
    }

    /// Whether a trial of `tokens` tokens is too long.
    fn over(&self, family: &dyn Family, tokens: usize) -> bool {
        tokens > self.length || (family.strict() && tokens == self.length)
    }

    /// The largest number of units that fits, and the tokens of the trial that showed it.
    ///
    /// # Errors
    ///
    /// [`EvalError::TooShort`] when not even the first size fits.
    pub(super) fn fit(
        &self,
        family: &dyn Family,
        draws: &mut Draws,
        search: Search,
    ) -> Result<usize, EvalError> {
        match (search, family.probe()) {
            (Search::Fast, _) => self.fit_fast(family, draws),
            (Search::Reference, None) => self.fit_linear(family, draws),
            (Search::Reference, Some(probe)) => self.fit_halving(family, draws, probe),
        }
    }

    /// Upstream's search: halving between the smallest size and one that is surely too large, to
    /// the last unit. Where nothing fits, the smallest size is left to fail as a sample.
    fn fit_halving(
        &self,
        family: &dyn Family,
        draws: &mut Draws,
        probe: usize,
    ) -> Result<usize, EvalError> {
        let tokens = self.trial(family, draws, probe)? - family.reserved_in_search();
        let guess = family.guess(self.length, tokens as f64 / probe as f64);
        let (mut low, mut high) = (family.step(), guess.max(2 * family.step()));
        let mut fits = family.step();
        while low <= high {
            let middle = low.midpoint(high);
            if self.trial(family, draws, middle)? <= self.length {
                (fits, low) = (middle, middle + 1);
            } else {
                high = middle - 1;
            }
        }
        Ok(fits.min(family.most().unwrap_or(fits)))
    }

    /// Every size in turn, each trial taking its draws from `draws`.
    fn fit_linear(&self, family: &dyn Family, draws: &mut Draws) -> Result<usize, EvalError> {
        let start = draws.clone();
        let (mut units, mut fits) = (family.least(), None);
        loop {
            if !family.redraws() {
                *draws = start.clone();
            }
            let tokens = self.trial(family, draws, units)?;
            if self.over(family, tokens) {
                return fits.ok_or_else(|| self.too_short(tokens));
            }
            fits = Some(units);
            units += family.step();
            match family.most() {
                Some(most) if units > most => return Ok(most),
                // The reference leaves its loop here with a size that is one step too large, and
                // then lowers it at every sample or, for variable tracking, never ends.
                _ if tokens == self.length => return Ok(units - family.step()),
                _ => {}
            }
        }
    }

    /// Regula falsi between a size that fits and one that does not, over multiples of the step.
    fn fit_fast(&self, family: &dyn Family, draws: &Draws) -> Result<usize, EvalError> {
        let (first, step) = (family.least(), family.step());
        let most = family.most().map_or(usize::MAX / 2, |most| most.saturating_sub(first) / step);
        let trial = |steps: usize| self.trial(family, &mut draws.clone(), first + steps * step);
        let least = trial(0)?;
        if self.over(family, least) {
            return Err(self.too_short(least));
        }
        // (steps, tokens) of the largest size that fits and of the smallest that does not.
        let (mut low, mut high) = ((0, least), None::<(usize, usize)>);
        // Tokens per step; the first guess takes the frame of the sample for haystack too.
        let mut slope = least as f64 * step as f64 / first as f64;
        for round in 0.. {
            let ceiling = high.map_or(most + 1, |(steps, _)| steps);
            let room = (self.length - low.1) as f64;
            if ceiling - low.0 <= 1 || (round > 1 && room < 0.5 * slope) {
                break;
            }
            let guess = (room / slope.max(1e-3)) as usize;
            // Every third guess halves the interval, so that a bent curve cannot hold up the
            // search.
            let halved = high.is_some() && round % 3 == 2;
            let ahead = if halved { (ceiling - low.0) / 2 } else { guess };
            let steps = low.0 + ahead.clamp(1, ceiling - low.0 - 1);
            let tokens = trial(steps)?;
            slope = (tokens as f64 - low.1 as f64) / (steps - low.0) as f64;
            if self.over(family, tokens) {
                high = Some((steps, tokens));
            } else {
                low = (steps, tokens);
            }
        }
        // The last, partial step up to the end of the material.
        Ok(match family.most() {
            Some(end) if low.0 == most => end,
            _ => first + low.0 * step,
        })
    }

    /// Sample `index` with `units` units, or fewer when chance makes it too long, and then one for
    /// each further question about its context, which are not drawn apart.
    ///
    /// # Errors
    ///
    /// [`EvalError::TooShort`] when it does not come out short enough at the smallest size.
    pub(super) fn sample(
        &self,
        family: &dyn Family,
        draws: &mut Draws,
        index: usize,
        mut units: usize,
    ) -> Result<Vec<Sample>, EvalError> {
        /// Tries at the smallest size; the reference would try for ever.
        const LAST_TRIES: usize = 20;
        let start = draws.clone();
        let (mut tries, mut least) = (0, usize::MAX);
        while tries < LAST_TRIES {
            if !family.redraws() {
                *draws = start.clone();
            }
            let draft = family.draw(draws, index, units)?;
            let budgeted = self.counter.count(&family.counted(&draft))? + family.reserved();
            if budgeted <= self.length {
                let length = family.length(&draft, budgeted, self.counter)?;
                let draft = family.finish(draws, draft);
                let Draft { context, query, outputs, extra, more } = draft;
                let first = Question { query, outputs, extra };
                let sample = |Question { query, outputs, extra }| Sample {
                    index,
                    input_context: context.clone(),
                    input_query: query,
                    outputs,
                    length,
                    extra,
                };
                return Ok([first].into_iter().chain(more).map(sample).collect());
            }
            least = least.min(budgeted);
            if units > family.least() {
                // Upstream's last step can end below the smallest size it searches.
                let floor = if family.probe().is_some() { 1 } else { family.least() };
                units = units.saturating_sub(family.step()).max(floor);
            } else {
                tries += 1;
            }
        }
        Err(self.too_short(least))
    }
}
