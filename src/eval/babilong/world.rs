//! People who move, take, drop and give things: the stories of tasks 1 to 3 and 5 to 8.
//!
//! Everything is told, but the story begins in the middle of things: nobody's place is known before a
//! move is told. Questions are asked only where the told facts determine the answer.

use crate::eval::random::PythonRandom;

use super::story::Story;

pub(super) const PEOPLE: [&str; 4] = ["John", "Mary", "Sandra", "Daniel"];
pub(super) const PLACES: [&str; 6] =
    ["bathroom", "bedroom", "garden", "hallway", "kitchen", "office"];
const GIVERS: [&str; 4] = ["Fred", "Jeff", "Bill", "Mary"];
const THINGS: [&str; 3] = ["apple", "football", "milk"];
pub(super) const MOVES: [&str; 5] =
    ["went to", "went back to", "journeyed to", "travelled to", "moved to"];
const GETS: [&str; 4] = ["got", "took", "grabbed", "picked up"];
const DROPS: [&str; 4] = ["dropped", "put down", "left", "discarded"];
const GIVES: [&str; 3] = ["gave", "handed", "passed"];

/// What somebody does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Act {
    Move { who: usize, to: usize },
    Get { who: usize, thing: usize },
    Drop { who: usize, thing: usize },
    Give { who: usize, thing: usize, to: usize },
}

/// A kind of act.
#[derive(Debug, Clone, Copy)]
enum Kind {
    Move,
    Get,
    Drop,
    Give,
}

/// The world, and what of it has been told.
struct World<'a> {
    random: &'a mut PythonRandom,
    people: [&'static str; 4],
    /// Place of each person.
    places: [usize; 4],
    /// Whether a person's place has been told.
    told: [bool; 4],
    /// Whether a person has had something.
    handled: [bool; 4],
    /// Who holds each thing.
    holder: [Option<usize>; 3],
    /// Where each thing lies that nobody holds.
    lies: [usize; 3],
    /// The places at which each thing was last known to be, distinct in turn; empty when unknown.
    history: [Vec<usize>; 3],
    /// What each person carries, in the order it was received.
    carried: [Vec<usize>; 4],
    /// How often "there" follows a get and a drop.
    there: (f64, f64),
}

impl<'a> World<'a> {
    fn new(random: &'a mut PythonRandom, people: [&'static str; 4], there: (f64, f64)) -> Self {
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
    fn choose(&mut self, kinds: &[Kind]) -> Act {
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
    fn act(&mut self, act: Act) -> String {
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
    fn known_things(&self) -> Vec<(usize, usize)> {
        let known = |thing: usize| self.history[thing].last().map(|&place| (thing, place));
        (0..3).filter_map(known).collect()
    }

    /// The people for whom `which` holds.
    fn those(&self, which: &[bool; 4]) -> Vec<usize> {
        (0..4).filter(|&who| which[who]).collect()
    }
}

/// Task 1: two moves, one question, five times.
pub(super) fn where_is_person(random: &mut PythonRandom) -> Story {
    let mut story = Story::default();
    let mut world = World::new(random, PEOPLE, (0.0, 0.0));
    for _ in 0..5 {
        for _ in 0..2 {
            let act = world.choose(&[Kind::Move]);
            story.tell(world.act(act));
        }
        let who = *world.random.choice(&world.those(&world.told));
        story.ask(format!("Where is {}? ", PEOPLE[who]), PLACES[world.places[who]]);
    }
    story
}

/// Tasks 2 and 3: where a thing is, and where it was before; five questions.
pub(super) fn where_is_thing(random: &mut PythonRandom, before: bool) -> Story {
    let mut story = Story::default();
    let there = if before { (0.2, 0.2) } else { (1.0, 0.2) };
    let mut world = World::new(random, PEOPLE, there);
    let mut since = 0;
    // Stories that keep a question waiting are rare; they end with fewer.
    while story.asked.len() < 5 && story.facts.len() < 400 {
        let act = world.choose(&[Kind::Get, Kind::Drop, Kind::Move]);
        story.tell(world.act(act));
        since += 1;
        let chance = if before { 1.0 / 7.0 } else { 0.5 };
        if since < 3 || world.random.unit() >= chance {
            continue;
        }
        let mut options = Vec::new();
        for (thing, place) in world.known_things() {
            if before {
                // The place must stand once in the thing's history, so that "before" has one meaning.
                let history = &world.history[thing];
                let once = history.iter().filter(|&&other| other == place).count() == 1;
                if let (true, [.., earlier, last]) = (once, history.as_slice()) {
                    let (thing, last) = (THINGS[thing], PLACES[*last]);
                    let question = format!("Where was the {thing} before the {last}? ");
                    options.push((question, PLACES[*earlier]));
                }
            } else {
                options.push((format!("Where is the {}? ", THINGS[thing]), PLACES[place]));
            }
        }
        if !options.is_empty() {
            let (question, answer) = world.random.choice(&options).clone();
            story.ask(question, answer);
            since = 0;
        }
    }
    story
}

/// Task 5: who gave what to whom; five questions.
pub(super) fn who_gave(random: &mut PythonRandom) -> Story {
    let mut story = Story::default();
    let mut world = World::new(random, GIVERS, (1.0, 0.2));
    while story.asked.len() < 5 {
        let act = world.choose(&[Kind::Get, Kind::Give, Kind::Move, Kind::Drop]);
        story.tell(world.act(act));
        let Act::Give { who, thing, to } = act else { continue };
        for _ in 0..world.random.below(6) {
            let other = world.choose(&[Kind::Get, Kind::Give, Kind::Move, Kind::Drop]);
            let related = match other {
                Act::Give { who: giver, thing: given, to: receiver } => {
                    given == thing || (giver, receiver) == (who, to)
                }
                Act::Get { thing: other, .. } | Act::Drop { thing: other, .. } => other == thing,
                Act::Move { .. } => false,
            };
            if !related {
                story.tell(world.act(other));
            }
        }
        let (a, b, o) = (GIVERS[who], GIVERS[to], THINGS[thing]);
        let (question, answer) = match world.random.below(6) {
            0 | 1 => (format!("What did {a} give to {b}? "), o),
            2 => (format!("Who did {a} give the {o} to? "), b),
            3 => (format!("Who gave the {o} to {b}? "), a),
            4 => (format!("Who gave the {o}? "), a),
            _ => (format!("Who received the {o}? "), b),
        };
        story.ask(question, answer);
    }
    story
}

/// Task 6: whether somebody is somewhere; two facts, one question, five times.
pub(super) fn is_person_there(random: &mut PythonRandom) -> Story {
    let mut story = Story::default();
    let mut world = World::new(random, PEOPLE, (1.0, 0.2));
    while story.asked.len() < 5 {
        for _ in 0..2 {
            let act = world.choose(&[Kind::Get, Kind::Drop, Kind::Move, Kind::Move, Kind::Move]);
            story.tell(world.act(act));
        }
        let known = world.those(&world.told);
        if known.is_empty() {
            continue;
        }
        let who = *world.random.choice(&known);
        let here = world.places[who];
        let yes = world.random.below(2) == 1;
        let elsewhere = (here + 1 + world.random.below(PLACES.len() - 1)) % PLACES.len();
        let place = PLACES[if yes { here } else { elsewhere }];
        let answer = if yes { "yes" } else { "no" };
        story.ask(format!("Is {} in the {place}? ", PEOPLE[who]), answer);
    }
    story
}

/// Tasks 7 and 8: how many things somebody carries, and which; a question every two facts.
pub(super) fn what_is_carried(random: &mut PythonRandom, list: bool) -> Story {
    let mut story = Story::default();
    let mut world = World::new(random, PEOPLE, (1.0, 0.2));
    while story.asked.len() < 5 {
        for _ in 0..2 {
            let act = world.choose(&[Kind::Get, Kind::Get, Kind::Drop, Kind::Give, Kind::Move]);
            story.tell(world.act(act));
        }
        // About those who ever had something, so that "none" is not nearly always right.
        let handled = world.those(&world.handled);
        if handled.is_empty() {
            continue;
        }
        let who = *world.random.choice(&handled);
        let carried = &world.carried[who];
        if list {
            let things: Vec<&str> = carried.iter().map(|&thing| THINGS[thing]).collect();
            let answer = if things.is_empty() { "nothing".to_owned() } else { things.join(",") };
            story.ask(format!("What is {} carrying? ", PEOPLE[who]), answer);
        } else {
            let count = ["none", "one", "two", "three"][carried.len()];
            story.ask(format!("How many objects is {} carrying? ", PEOPLE[who]), count);
        }
    }
    story
}
