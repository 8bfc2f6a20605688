//! People who move, take, drop and give things.
//!
//! Everything is told, but the story begins in the middle of things: nobody's place is known before
//! a move is told. Questions are asked only where the told facts determine the answer.

use crate::random::PythonRandom;

pub(super) const PEOPLE: [&str; 4] = ["John", "Mary", "Sandra", "Daniel"];
pub(super) const PLACES: [&str; 6] =
    ["bathroom", "bedroom", "garden", "hallway", "kitchen", "office"];
pub(super) const GIVERS: [&str; 4] = ["Fred", "Jeff", "Bill", "Mary"];
pub(super) const THINGS: [&str; 3] = ["apple", "football", "milk"];
pub(super) const MOVES: [&str; 5] =
    ["went to", "went back to", "journeyed to", "travelled to", "moved to"];
const GETS: [&str; 4] = ["got", "took", "grabbed", "picked up"];
const DROPS: [&str; 4] = ["dropped", "put down", "left", "discarded"];
const GIVES: [&str; 3] = ["gave", "handed", "passed"];

/// What somebody does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Act {
    Move { who: usize, to: usize },
    Get { who: usize, thing: usize },
    Drop { who: usize, thing: usize },
    Give { who: usize, thing: usize, to: usize },
}

/// A kind of act.
#[derive(Debug, Clone, Copy)]
pub(super) enum Kind {
    Move,
    Get,
    Drop,
    Give,
}

/// The world, and what of it has been told.
pub(super) struct World<'a> {
    pub(super) random: &'a mut PythonRandom,
    people: [&'static str; 4],
    /// Place of each person.
    pub(super) places: [usize; 4],
    /// Whether a person's place has been told.
    pub(super) told: [bool; 4],
    /// Whether a person has had something.
    pub(super) handled: [bool; 4],
    /// Who holds each thing.
    holder: [Option<usize>; 3],
    /// Where each thing lies that nobody holds.
    lies: [usize; 3],
    /// The places at which each thing was last known to be, distinct in turn; empty when unknown.
    pub(super) history: [Vec<usize>; 3],
    /// What each person carries, in the order it was received.
    pub(super) carried: [Vec<usize>; 4],
    /// How often "there" follows a get and a drop.
    there: (f64, f64),
}

impl<'a> World<'a> {
    pub(super) fn new(
        random: &'a mut PythonRandom,
        people: [&'static str; 4],
        there: (f64, f64),
    ) -> Self {
        let places = [(); 4].map(|()| random.below(PLACES.len()));
        let lies = [(); 3].map(|()| random.below(PLACES.len()));
        Self {
            random,
            people,
            places,
            told: [false; 4],
            handled: [false; 4],
            holder: [None; 3],
            lies,
            history: Default::default(),
            carried: Default::default(),
            there,
        }
    }

    /// A possible act of a kind drawn from `kinds`.
    pub(super) fn choose(&mut self, kinds: &[Kind]) -> Act {
        loop {
            let kind = *self.random.choice(kinds);
            let options = self.options(kind);
            if !options.is_empty() {
                return *self.random.choice(&options);
            }
        }
    }

    /// Every possible act of a kind.
    fn options(&self, kind: Kind) -> Vec<Act> {
        let mut options = Vec::new();
        for who in 0..4 {
            match kind {
                Kind::Move => options.extend(
                    (0..PLACES.len())
                        .filter(|&to| to != self.places[who])
                        .map(|to| Act::Move { who, to }),
                ),
                Kind::Get => options.extend(
                    (0..3)
                        .filter(|&thing| {
                            self.holder[thing].is_none() && self.lies[thing] == self.places[who]
                        })
                        .map(|thing| Act::Get { who, thing }),
                ),
                Kind::Drop => {
                    options.extend(self.carried[who].iter().map(|&thing| Act::Drop { who, thing }));
                }
                Kind::Give => {
                    for to in (0..4).filter(|&to| to != who && self.places[to] == self.places[who])
                    {
                        options.extend(self.carried[who].iter().map(|&thing| Act::Give {
                            who,
                            thing,
                            to,
                        }));
                    }
                }
            }
        }
        options
    }

    /// Does it and says it.
    pub(super) fn act(&mut self, act: Act) -> String {
        match act {
            Act::Move { who, to } => {
                (self.places[who], self.told[who]) = (to, true);
                for thing in self.carried[who].clone() {
                    self.seen(thing, who);
                }
                format!("{} {} the {}.", self.people[who], self.random.choice(&MOVES), PLACES[to])
            }
            Act::Get { who, thing } => {
                self.handled[who] = true;
                self.holder[thing] = Some(who);
                self.carried[who].push(thing);
                self.seen(thing, who);
                let there = self.there(self.there.0);
                let verb = self.random.choice(&GETS);
                format!("{} {verb} the {}{there}.", self.people[who], THINGS[thing])
            }
            Act::Drop { who, thing } => {
                self.holder[thing] = None;
                self.lies[thing] = self.places[who];
                self.carried[who].retain(|&other| other != thing);
                let there = self.there(self.there.1);
                let verb = self.random.choice(&DROPS);
                format!("{} {verb} the {}{there}.", self.people[who], THINGS[thing])
            }
            Act::Give { who, thing, to } => {
                self.handled[to] = true;
                self.holder[thing] = Some(to);
                self.carried[who].retain(|&other| other != thing);
                self.carried[to].push(thing);
                // Whoever is given something is where the giver is.
                self.told[to] |= self.told[who];
                self.told[who] |= self.told[to];
                self.seen(thing, to);
                let verb = self.random.choice(&GIVES);
                format!("{} {verb} the {} to {}.", self.people[who], THINGS[thing], self.people[to])
            }
        }
    }

    fn there(&mut self, share: f64) -> &'static str {
        if self.random.unit() < share { " there" } else { "" }
    }

    /// Notes that `thing` is with `who`, if it has been told where that is.
    fn seen(&mut self, thing: usize, who: usize) {
        let place = self.places[who];
        let history = &mut self.history[thing];
        if !self.told[who] {
            history.clear();
        } else if history.last() != Some(&place) {
            history.push(place);
        }
    }

    /// Where each thing is of which that is known.
    pub(super) fn known_things(&self) -> Vec<(usize, usize)> {
        let known = |thing: usize| self.history[thing].last().map(|&place| (thing, place));
        (0..3).filter_map(known).collect()
    }

    /// The people for whom `which` holds.
    pub(super) fn those(&self, which: &[bool; 4]) -> Vec<usize> {
        (0..4).filter(|&who| which[who]).collect()
    }
}
