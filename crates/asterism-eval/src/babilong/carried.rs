//! The stories of tasks 1 to 3 and 5 to 8: where people and things are, who has what and from whom.

use crate::random::PythonRandom;

use super::story::Story;
use super::world::{Act, GIVERS, Kind, PEOPLE, PLACES, THINGS, World};

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
                // The place must stand once in the thing's history, so that "before" has one
                // meaning.
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
