//! People who only move, told in indirect ways: the stories of tasks 9 to 14.

use crate::random::PythonRandom;

use super::story::Story;
use super::world::{MOVES, PEOPLE, PLACES};

/// People and places of tasks 10 and 14.
const OTHERS: [&str; 4] = ["Bill", "Fred", "Julie", "Mary"];
const SITES: [&str; 6] = ["bedroom", "cinema", "kitchen", "office", "park", "school"];
const LATER: [&str; 4] = ["After that", "Afterwards", "Then", "Following that"];
const TIMES: [&str; 4] = ["yesterday", "this morning", "this afternoon", "this evening"];

/// Any place but `place`.
fn elsewhere(random: &mut PythonRandom, place: usize) -> usize {
    (place + 1 + random.below(PLACES.len() - 1)) % PLACES.len()
}

/// What the reader knows of a person's place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Known {
    Nothing,
    At(usize),
    NotAt(usize),
    Either(usize, usize),
}

/// Task 9: places told by moves, by "is in", "is not in" and "is no longer in".
pub(super) fn negated(random: &mut PythonRandom) -> Story {
    let mut story = Story::default();
    let mut places = [(); 4].map(|()| random.below(PLACES.len()));
    let mut known = [Known::Nothing; 4];
    for _ in 0..5 {
        for _ in 0..2 {
            let who = random.below(4);
            let (name, other) = (PEOPLE[who], elsewhere(random, places[who]));
            let fact = match (random.below(4), known[who]) {
                (0, _) => {
                    (places[who], known[who]) = (other, Known::At(other));
                    format!("{name} {} the {}.", random.choice(&MOVES), PLACES[other])
                }
                (1, Known::At(place)) => {
                    // Gone from where the reader knew them, nobody says where to.
                    (places[who], known[who]) = (other, Known::NotAt(place));
                    format!("{name} is no longer in the {}.", PLACES[place])
                }
                (2, Known::Nothing | Known::NotAt(_)) => {
                    known[who] = Known::NotAt(other);
                    format!("{name} is not in the {}.", PLACES[other])
                }
                (2, _) => format!("{name} is not in the {}.", PLACES[other]),
                _ => {
                    known[who] = Known::At(places[who]);
                    format!("{name} is in the {}.", PLACES[places[who]])
                }
            };
            story.tell(fact);
        }
        let mentioned: Vec<usize> = (0..4).filter(|&who| known[who] != Known::Nothing).collect();
        let who = *random.choice(&mentioned);
        let (place, answer) = match known[who] {
            Known::At(place) if random.below(2) == 1 => (place, "yes"),
            Known::At(place) => (elsewhere(random, place), "no"),
            Known::NotAt(place) | Known::Either(place, _) => (place, "no"),
            Known::Nothing => continue,
        };
        story.ask(format!("Is {} in the {}? ", PEOPLE[who], PLACES[place]), answer);
    }
    story
}

/// Task 10: places told for certain, or as one of two.
pub(super) fn indefinite(random: &mut PythonRandom) -> Story {
    let mut story = Story::default();
    let mut known = [Known::Nothing; 4];
    for _ in 0..5 {
        for _ in 0..2 {
            let who = random.below(4);
            let (name, place) = (OTHERS[who], random.below(SITES.len()));
            let other = elsewhere(random, place);
            let fact = match random.below(5) {
                0 | 1 => {
                    known[who] = Known::Either(place, other);
                    format!("{name} is either in the {} or the {}.", SITES[place], SITES[other])
                }
                2 | 3 => {
                    // A move leads to another place.
                    let to = if known[who] == Known::At(place) { other } else { place };
                    known[who] = Known::At(to);
                    format!("{name} {} the {}.", random.choice(&MOVES), SITES[to])
                }
                _ => {
                    known[who] = Known::At(place);
                    format!("{name} is in the {}.", SITES[place])
                }
            };
            story.tell(fact);
        }
        let mentioned: Vec<usize> = (0..4).filter(|&who| known[who] != Known::Nothing).collect();
        let who = *random.choice(&mentioned);
        let named = random.below(8) < 5;
        let (place, answer) = match known[who] {
            Known::At(place) if named => (place, "yes"),
            Known::At(place) => (elsewhere(random, place), "no"),
            Known::Either(one, other) if random.below(2) == 1 => {
                (if named { one } else { other }, "maybe")
            }
            Known::Either(one, other) => {
                let third = elsewhere(random, one);
                let none = (0..SITES.len()).find(|&place| place != one && place != other);
                (if third == other { none.unwrap_or(third) } else { third }, "no")
            }
            Known::NotAt(_) | Known::Nothing => continue,
        };
        story.ask(format!("Is {} in the {}? ", OTHERS[who], SITES[place]), answer);
    }
    story
}

/// Tasks 11 and 13: a move and another one told with a pronoun, of one person or of two.
pub(super) fn pronouns(random: &mut PythonRandom, together: bool) -> Story {
    let mut story = Story::default();
    let mut places = [None; 4];
    for _ in 0..5 {
        let pair = random.sample(4, 2);
        let movers = if together { &pair[..] } else { &pair[..1] };
        let first = random.below(PLACES.len());
        let second = elsewhere(random, first);
        let (subject, pronoun) = match movers {
            [a, b] => (format!("{} and {}", PEOPLE[*a], PEOPLE[*b]), "they"),
            _ => {
                let name = PEOPLE[pair[0]];
                (name.to_owned(), if name == "John" || name == "Daniel" { "he" } else { "she" })
            }
        };
        story.tell(format!("{subject} {} the {}.", random.choice(&MOVES), PLACES[first]));
        let (later, verb) = (random.choice(&LATER), random.choice(&MOVES));
        story.tell(format!("{later} {pronoun} {verb} the {}.", PLACES[second]));
        for &who in movers {
            places[who] = Some(second);
        }
        ask_place(random, &mut story, &places);
    }
    story
}

/// Task 12: two people move together, twice for each question.
pub(super) fn conjunction(random: &mut PythonRandom) -> Story {
    let mut story = Story::default();
    let mut places = [None; 4];
    for _ in 0..5 {
        for _ in 0..2 {
            let pair = random.sample(4, 2);
            let to = random.below(PLACES.len());
            let verb = random.choice(&MOVES);
            story.tell(format!(
                "{} and {} {verb} the {}.",
                PEOPLE[pair[0]], PEOPLE[pair[1]], PLACES[to]
            ));
            for who in pair {
                places[who] = Some(to);
            }
        }
        ask_place(random, &mut story, &places);
    }
    story
}

fn ask_place(random: &mut PythonRandom, story: &mut Story, places: &[Option<usize>; 4]) {
    let known: Vec<(usize, usize)> =
        (0..4).filter_map(|who| places[who].map(|place| (who, place))).collect();
    let (who, place) = *random.choice(&known);
    story.ask(format!("Where is {}? ", PEOPLE[who]), PLACES[place]);
}

/// Task 14: moves of four times of the day, told out of order.
pub(super) fn times(random: &mut PythonRandom) -> Story {
    let mut story = Story::default();
    // Where each person was at each time, as far as told.
    let mut movements = [[None::<usize>; 4]; 4];
    let mut told = 0;
    while story.asked.len() < 5 {
        // Four facts before the first question, two before every other one.
        for _ in 0..if told == 0 { 4 } else { 2 } {
            // The second fact is about the person of the first, so that there is something to ask.
            let again = (0..4).find(|&who| told == 1 && movements[who].iter().any(Option::is_some));
            let (who, time, place) = loop {
                let who = again.unwrap_or_else(|| random.below(4));
                let (time, place) = (random.below(4), random.below(SITES.len()));
                if movements[who][time].is_none() && !movements[who].contains(&Some(place)) {
                    break (who, time, place);
                }
            };
            movements[who][time] = Some(place);
            told += 1;
            let moved = format!("{} {} the {}", OTHERS[who], random.choice(&MOVES), SITES[place]);
            let when = TIMES[time];
            story.tell(if random.below(2) == 1 {
                format!("{moved} {when}.")
            } else {
                format!("{}{} {moved}.", when[..1].to_uppercase(), &when[1..])
            });
        }
        let mut options = Vec::new();
        for (who, moves) in movements.iter().enumerate() {
            let stays: Vec<usize> = moves.iter().copied().flatten().collect();
            options.extend(stays.windows(2).map(|pair| (who, pair[0], pair[1])));
        }
        let (who, before, after) = *random.choice(&options);
        story
            .ask(format!("Where was {} before the {}? ", OTHERS[who], SITES[after]), SITES[before]);
    }
    story
}
