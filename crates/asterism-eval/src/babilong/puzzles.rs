//! Facts that are true together and ask for one more: the stories of tasks 4 and 15 to 20.

use std::collections::HashMap;

use crate::random::PythonRandom;

use super::story::Story;
use super::world::{MOVES, PLACES};

/// Compass directions as steps (east, north), with their names; the opposite of `i` is `i ^ 1`.
const COMPASS: [(i32, i32, &str); 4] =
    [(0, 1, "north"), (0, -1, "south"), (1, 0, "east"), (-1, 0, "west")];

/// "A is D of B" stated one way or the other.
fn relation(random: &mut PythonRandom, a: &str, direction: usize, b: &str) -> String {
    if random.below(2) == 1 {
        format!("The {a} is {} of the {b}.", COMPASS[direction].2)
    } else {
        format!("The {b} is {} of the {a}.", COMPASS[direction ^ 1].2)
    }
}

/// Task 4: three places in a row; what lies on one side of the middle one.
pub(super) fn two_directions(random: &mut PythonRandom) -> Story {
    let mut story = Story::default();
    let row: Vec<&str> = random.sample(PLACES.len(), 3).into_iter().map(|i| PLACES[i]).collect();
    let direction = random.below(4);
    // row[0] is in that direction of row[1], and that of row[2].
    let mut facts =
        [relation(random, row[0], direction, row[1]), relation(random, row[1], direction, row[2])];
    random.shuffle(&mut facts);
    for fact in facts {
        story.tell(fact);
    }
    let (answer, side) =
        if random.below(2) == 1 { (row[0], direction) } else { (row[2], direction ^ 1) };
    let question = if random.below(2) == 1 {
        format!("What is {} of the {}?", COMPASS[side].2, row[1])
    } else {
        format!("What is the {} {} of?", row[1], COMPASS[side ^ 1].2)
    };
    story.ask(question, answer);
    story
}

/// Task 15: kinds of animals and what they fear.
pub(super) fn fears(random: &mut PythonRandom) -> Story {
    const ANIMALS: [(&str, &str); 4] =
        [("mouse", "mice"), ("sheep", "sheep"), ("wolf", "wolves"), ("cat", "cats")];
    const NAMES: [&str; 4] = ["Gertrude", "Winona", "Jessica", "Emily"];
    let mut story = Story::default();
    let afraid = [0, 1, 2, 3].map(|animal| (animal + 1 + random.below(3)) % 4);
    let kinds = [(); 4].map(|()| random.below(4));
    let mut facts = Vec::new();
    for (animal, &feared) in afraid.iter().enumerate() {
        let plural = ANIMALS[animal].1;
        let capital = plural[..1].to_uppercase();
        facts.push(format!("{capital}{} are afraid of {}.", &plural[1..], ANIMALS[feared].1));
    }
    facts.extend(
        NAMES.iter().zip(kinds).map(|(name, kind)| format!("{name} is a {}.", ANIMALS[kind].0)),
    );
    random.shuffle(&mut facts);
    for fact in facts {
        story.tell(fact);
    }
    for (name, kind) in NAMES.iter().zip(kinds) {
        let question = format!("What is {} afraid of?", name.to_lowercase());
        story.ask(question, ANIMALS[afraid[kind]].0);
    }
    story
}

/// Task 16: the colour of somebody, told of another animal of that kind.
pub(super) fn colours(random: &mut PythonRandom) -> Story {
    const NAMES: [&str; 5] = ["Lily", "Bernhard", "Greg", "Julius", "Brian"];
    const ANIMALS: [&str; 4] = ["frog", "lion", "rhino", "swan"];
    const COLOURS: [&str; 4] = ["gray", "green", "white", "yellow"];
    let mut story = Story::default();
    let colour = [(); 4].map(|()| *random.choice(&COLOURS));
    let order = random.sample(5, 5);
    let (asked, like) = (order[0], order[1]);
    let mut kinds = [(); 5].map(|()| random.below(4));
    kinds[asked] = kinds[like];
    let mut facts: Vec<String> =
        (0..5).map(|i| format!("{} is a {}.", NAMES[i], ANIMALS[kinds[i]])).collect();
    let others = (0..5).filter(|&i| i != asked);
    facts.extend(others.map(|i| format!("{} is {}.", NAMES[i], colour[kinds[i]])));
    random.shuffle(&mut facts);
    for fact in facts {
        story.tell(fact);
    }
    story.ask(format!("What color is {}?", NAMES[asked]), colour[kinds[asked]]);
    story
}

/// Task 17: three shapes on a grid, two relations, eight questions.
pub(super) fn positions(random: &mut PythonRandom) -> Story {
    const SHAPES: [&str; 4] = ["square", "rectangle", "triangle", "sphere"];
    const COLOURS: [&str; 5] = ["", "red ", "blue ", "pink ", "yellow "];
    const WORDS: [&str; 4] = ["above", "below", "to the right of", "to the left of"];
    let mut story = Story::default();
    // A shape without a colour must be the only one of its kind.
    let shapes = loop {
        let drawn = random.sample(SHAPES.len() * COLOURS.len(), 3);
        let plain = |i: &usize| i.is_multiple_of(COLOURS.len());
        let kind = |i: usize| i / COLOURS.len();
        let clash = |a: &usize| plain(a) && drawn.iter().any(|&b| b != *a && kind(b) == kind(*a));
        if !drawn.iter().any(clash) {
            break drawn
                .iter()
                .map(|&i| format!("{}{}", COLOURS[i % COLOURS.len()], SHAPES[kind(i)]))
                .collect::<Vec<_>>();
        }
    };
    let mut at = vec![(0, 0)];
    while at.len() < 3 {
        let direction = random.below(4);
        let (last, (east, north, _)) = (at[at.len() - 1], COMPASS[direction]);
        let next = (last.0 + east, last.1 + north);
        if at.contains(&next) {
            continue;
        }
        let (a, b) = (&shapes[at.len()], &shapes[at.len() - 1]);
        story.tell(if random.below(2) == 1 {
            format!("The {a} is {} the {b}.", WORDS[direction])
        } else {
            format!("The {b} is {} the {a}.", WORDS[direction ^ 1])
        });
        at.push(next);
    }
    for _ in 0..8 {
        let pair = random.sample(3, 2);
        let (a, b) = (pair[0], pair[1]);
        let (east, north) = (at[a].0 - at[b].0, at[a].1 - at[b].1);
        let mut true_words = Vec::new();
        if north != 0 {
            true_words.push(usize::from(north < 0));
        }
        if east != 0 {
            true_words.push(2 + usize::from(east < 0));
        }
        let word = *random.choice(&true_words);
        let yes = random.below(2) == 1;
        let word = WORDS[if yes { word } else { word ^ 1 }];
        story.ask(
            format!("Is the {} {word} the {}?", shapes[a], shapes[b]),
            if yes { "yes" } else { "no" },
        );
    }
    story
}

/// Task 18: what fits into what; pairs that are two facts apart.
pub(super) fn sizes(random: &mut PythonRandom) -> Story {
    let mut story = Story::default();
    let mut containers = ["chest", "suitcase", "container", "box"];
    random.shuffle(&mut containers);
    // From the smallest to the largest.
    let mut order = vec!["chocolate", "box of chocolates"];
    order.extend(containers);
    // Pairs (smaller, larger) told: a chain of three first, so that there is something to ask.
    let mut chain = random.sample(order.len(), 3);
    chain.sort_unstable();
    let mut told = vec![(chain[0], chain[1]), (chain[1], chain[2])];
    while told.len() < 5 {
        let mut pair = random.sample(order.len(), 2);
        pair.sort_unstable();
        if !told.contains(&(pair[0], pair[1])) && (pair[0], pair[1]) != (chain[0], chain[2]) {
            told.push((pair[0], pair[1]));
        }
    }
    random.shuffle(&mut told);
    for &(small, large) in &told {
        let (small, large) = (order[small], order[large]);
        story.tell(if random.below(2) == 1 {
            format!("The {large} is bigger than the {small}.")
        } else {
            format!("The {small} fits inside the {large}.")
        });
    }
    let mut apart = Vec::new();
    for &(small, middle) in &told {
        for &(between, large) in &told {
            if middle == between
                && !told.contains(&(small, large))
                && !apart.contains(&(small, large))
            {
                apart.push((small, large));
            }
        }
    }
    for (small, large) in apart {
        let (small, large) = (order[small], order[large]);
        let yes = random.below(2) == 1;
        let answer = if yes { "yes" } else { "no" };
        let (a, b) = if yes { (small, large) } else { (large, small) };
        if random.below(2) == 1 {
            story.ask(format!("Does the {a} fit in the {b}?"), answer);
        } else {
            story.ask(format!("Is the {b} bigger than the {a}?"), answer);
        }
    }
    story
}

/// Task 19: rooms on a grid; the way of two steps between two of them.
pub(super) fn paths(random: &mut PythonRandom) -> Story {
    let mut story = Story::default();
    let rooms: Vec<&str> =
        random.sample(PLACES.len(), PLACES.len()).into_iter().map(|i| PLACES[i]).collect();
    let mut cells = HashMap::from([((0, 0), 0)]);
    let mut at = vec![(0, 0)];
    // (room, the one it was put next to, the direction from that one).
    let mut edges = Vec::<(usize, usize, usize)>::new();
    while at.len() < rooms.len() {
        let (near, direction) = (random.below(at.len()), random.below(4));
        let (east, north, _) = COMPASS[direction];
        let cell = (at[near].0 + east, at[near].1 + north);
        if cells.contains_key(&cell) {
            continue;
        }
        cells.insert(cell, at.len());
        edges.push((at.len(), near, direction));
        at.push(cell);
    }
    let mut facts: Vec<String> = edges
        .iter()
        .map(|&(room, near, direction)| relation(random, rooms[room], direction, rooms[near]))
        .collect();
    random.shuffle(&mut facts);
    for fact in facts {
        story.tell(fact);
    }
    // Steps in both directions, and the pairs of them that do not turn back.
    let steps: Vec<(usize, usize, usize)> = edges
        .iter()
        .flat_map(|&(room, near, direction)| [(near, room, direction), (room, near, direction ^ 1)])
        .collect();
    let mut ways = Vec::new();
    for &(from, middle, first) in &steps {
        for &(between, to, second) in &steps {
            if middle == between && to != from {
                ways.push((from, to, first, second));
            }
        }
    }
    let (from, to, first, second) = *random.choice(&ways);
    let letter = |direction: usize| &COMPASS[direction].2[..1];
    story.ask(
        format!("How do you go from the {} to the {}?", rooms[from], rooms[to]),
        format!("{},{}", letter(first), letter(second)),
    );
    story
}

/// Task 20: moods, and where and to what they lead.
pub(super) fn motives(random: &mut PythonRandom) -> Story {
    const NAMES: [&str; 4] = ["Sumit", "Yann", "Antoine", "Jason"];
    const MOODS: [(&str, &str, &str); 4] = [
        ("hungry", "kitchen", "apple"),
        ("thirsty", "kitchen", "milk"),
        ("bored", "garden", "football"),
        ("tired", "bedroom", "pajamas"),
    ];
    const GETS: [&str; 4] = ["got", "took", "grabbed", "picked up"];
    let mut story = Story::default();
    let moods = random.sample(4, 4);
    // How much has been told of each person: the mood, the way, the thing.
    let mut stage = [0; 4];
    for _ in 0..12 {
        let open: Vec<usize> = (0..4).filter(|&who| stage[who] < 3).collect();
        let who = *random.choice(&open);
        let (mood, place, thing) = MOODS[moods[who]];
        let (name, low) = (NAMES[who], NAMES[who].to_lowercase());
        let (fact, question, answer) = match stage[who] {
            0 => (format!("{name} is {mood}."), format!("Where will {low} go?"), place),
            1 => (
                format!("{name} {} the {place}.", random.choice(&MOVES)),
                format!("Why did {low} go to the {place}?"),
                mood,
            ),
            _ => (
                format!("{name} {} the {thing} there.", random.choice(&GETS)),
                format!("Why did {low} get the {thing}?"),
                mood,
            ),
        };
        stage[who] += 1;
        story.tell(fact);
        story.ask(question, answer);
    }
    story
}
