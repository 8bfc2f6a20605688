//! The four tasks that need no data: keys in noise, values in JSON, numbers in a list.

use serde_json::{Map, json};

use crate::random::PythonRandom;
use crate::{ChatFrame, CountTokens, EvalError, SampleSet};

use super::read::sample;
use super::record::Record;
use super::{Task, tasks};

const NOISE: &str =
    "The grass is green. The sky is blue. The sun is yellow. Here we go. There and back again.\n";

/// Lines of noise of the published samples, by length in tokens.
const LINES: [(usize, usize); 6] = [
    (8 << 10, 326),
    (16 << 10, 652),
    (32 << 10, 1305),
    (64 << 10, 2610),
    (128 << 10, 5220),
    (256 << 10, 10_440),
];
/// Places among the lines at which a key can stand.
const PLACES: usize = 59;
/// Pairs and numbers of the published samples, of 128K tokens.
const PAIRS: usize = 2500;
const NUMBERS: usize = 60_000;

/// `samples` samples of `task` in the manner of the published ones, of at most `length` tokens.
///
/// Depths are even over the samples. At the published lengths the haystack has the published size
/// unless it takes too many tokens; at others it fills the length.
///
/// # Errors
///
/// [`EvalError::Unknown`] for a task that cannot be generated, naming those that can;
/// [`EvalError::TooShort`] when not even a tiny haystack fits; what counting tokens reports.
pub fn generate(
    task: &str,
    length: usize,
    samples: usize,
    seed: u32,
    frame: &ChatFrame,
    counter: &dyn CountTokens,
) -> Result<SampleSet, EvalError> {
    let known: Vec<&str> =
        Task::ALL.iter().filter(|task| task.is_generated()).map(|t| t.name()).collect();
    let task = task.parse::<Task>().ok().filter(|task| task.is_generated()).ok_or_else(|| {
        EvalError::unknown("task that can be generated", task, known.iter().copied())
    })?;
    let draw = |index: usize, units: usize| {
        // Every sample has its own generator, so that sizes tried leave the draws alone.
        let mut random = PythonRandom::new((u64::from(seed) << 32) | index as u64);
        draw(task, &mut random, index, samples, units)
    };
    let count = |units: usize, index: usize| {
        let (record, _) = draw(index, units);
        sample(task, 0, record, frame, None, counter).map(|sample| sample.length)
    };
    let most = published(task, length);
    let units = fit(length, most, |units| count(units, 0))
        .and_then(|units| units.map_err(|least| too_short(task, length, least)))?;

    let mut made = Vec::with_capacity(samples);
    for index in 0..samples {
        let mut units = units;
        loop {
            let (record, depth) = draw(index, units);
            let mut sample = sample(task, index, record, frame, None, counter)?;
            if sample.length <= length {
                if let Some(depth) = depth {
                    sample.extra.insert("depths".to_owned(), json!([depth]));
                }
                made.push(sample);
                break;
            }
            if units <= smallest(task) {
                return Err(too_short(task, length, sample.length));
            }
            units = (units - units.div_ceil(200)).max(smallest(task));
        }
    }
    let mut metadata = Map::new();
    for (key, value) in [
        ("template", json!(frame.name)),
        ("seed", json!(seed)),
        ("length", json!(length)),
        ("units", json!(units)),
        ("data", json!("generated")),
    ] {
        metadata.insert(key.to_owned(), value);
    }
    let info = tasks().swap_remove(Task::ALL.iter().position(|other| *other == task).unwrap_or(0));
    Ok(SampleSet { task: info, samples: made, metadata })
}

fn too_short(task: Task, length: usize, least: usize) -> EvalError {
    EvalError::TooShort { task: task.name().to_owned(), length, least }
}

/// Units of the published haystack of this length, if there is one.
fn published(task: Task, length: usize) -> Option<usize> {
    let lines = LINES.iter().find(|(tokens, _)| *tokens == length).map(|(_, lines)| *lines);
    let full = length == 128 << 10;
    match task {
        Task::KvRetrieval => full.then_some(PAIRS),
        Task::MathFind => full.then_some(NUMBERS),
        _ => lines,
    }
}

/// The least units that make a haystack.
fn smallest(task: Task) -> usize {
    match task {
        Task::KvRetrieval => 2,
        Task::MathFind => 7,
        _ => 1,
    }
}

/// The largest number of units, up to `most`, for which `count` gives at most `length` tokens; or
/// the tokens of the smallest number, where even those are too many.
fn fit(
    length: usize,
    most: Option<usize>,
    count: impl Fn(usize) -> Result<usize, EvalError>,
) -> Result<Result<usize, usize>, EvalError> {
    const FEW: usize = 16;
    if let Some(most) = most
        && count(most)? <= length
    {
        return Ok(Ok(most));
    }
    let (mut low, mut high) = ((FEW, count(FEW)?), most);
    if low.1 > length {
        return Ok(Err(low.1));
    }
    let mut slope = low.1 as f64 / FEW as f64;
    for round in 0.. {
        let room = (length - low.1) as f64;
        let ceiling = high.unwrap_or(usize::MAX / 2);
        if ceiling - low.0 <= 1 || (round > 1 && room < 1.5 * slope) {
            break;
        }
        let halved = high.is_some() && round % 3 == 2;
        let ahead = if halved { (ceiling - low.0) / 2 } else { (room / slope.max(1e-3)) as usize };
        let units = low.0 + ahead.clamp(1, ceiling - low.0 - 1);
        let tokens = count(units)?;
        slope = (tokens as f64 - low.1 as f64) / (units - low.0) as f64;
        if tokens <= length {
            low = (units, tokens);
        } else {
            high = Some(units);
        }
    }
    Ok(Ok(low.0))
}

/// A record of `units` units, and the depth of its answer where it has one.
fn draw(
    task: Task,
    random: &mut PythonRandom,
    index: usize,
    samples: usize,
    units: usize,
) -> (Record, Option<f64>) {
    let digit = |random: &mut PythonRandom| char::from(b'0' + random.below(10) as u8);
    let share = index as f64 / samples.max(1) as f64;
    let (context, input, answer, depth) = match task {
        Task::KvRetrieval => {
            let pairs: Vec<(String, String)> =
                (0..units).map(|_| (random.uuid(), random.uuid())).collect();
            let at = ((index * units) / samples.max(1)).min(units - 1);
            let lines: Vec<String> =
                pairs.iter().map(|(k, v)| format!("\"{k}\": \"{v}\"")).collect();
            let (key, value) = pairs[at].clone();
            let input =
                format!("\nKey: \"{key}\"\nThe value associated with the specified key is: ");
            let context = format!("JSON data:\n{{{}}}", lines.join(", "));
            (context, input, value, Some(at as f64 / units as f64))
        }
        Task::MathFind => {
            let (context, input, answer) = numbers(random, index, units);
            (context, input, answer, None)
        }
        _ => {
            // The published places step by a 58th of the lines, from the first to the last.
            let place = (share * PLACES as f64) as usize;
            let before = place * units / (PLACES - 1);
            let mut key: Vec<char> = (0..5).map(|_| digit(random)).collect();
            let (line, input) = if task == Task::Passkey {
                (
                    "The pass key is {key}. Remember it. {key} is the pass key.\n",
                    "What is the pass key?",
                )
            } else {
                for k in 0..5 {
                    let at = random.below(5 + k);
                    key.insert(at, key[at]);
                }
                (
                    "The sequence of digits is {key}. Remember it. {key} is the sequence of digits.\n",
                    "What is the sequence of digits?",
                )
            };
            let key: String = key.into_iter().collect();
            let line = line.replace("{key}", &key);
            let context = format!("{}{line}{}", NOISE.repeat(before), NOISE.repeat(units - before));
            (context, input.to_owned(), key, Some(before as f64 / units as f64))
        }
    };
    (Record { context, input, answers: vec![answer], options: Vec::new() }, depth)
}

/// A list of whole numbers in 0..=99 as Python prints it, a question about it, and the answer.
///
/// The extreme that is asked for is drawn from the top or bottom fifth first; second and third
/// count different numbers only.
fn numbers(random: &mut PythonRandom, index: usize, units: usize) -> (String, String, String) {
    const ASKED: [&str; 7] = [
        "largest number",
        "second largest number",
        "third largest number",
        "smallest number",
        "second smallest number",
        "third smallest number",
        "median",
    ];
    let asked = index % ASKED.len();
    let (low, high) = match asked {
        0..=2 => (0, random.int(80, 99)),
        3..=5 => (random.int(0, 19), 99),
        _ => (0, 99),
    };
    let mut list: Vec<usize> = (0..units).map(|_| random.int(low, high)).collect();
    // The extreme and its neighbours are there however short the list is.
    let extremes = match asked {
        0..=2 => [high, high - 1, high - 2],
        _ => [low, low + 1, low + 2],
    };
    if asked < 6 {
        let places = random.sample(units, 3);
        for (place, extreme) in places.into_iter().zip(extremes) {
            list[place] = extreme;
        }
    }
    let answer = if asked < 6 {
        extremes[asked % 3].to_string()
    } else {
        let mut sorted = list.clone();
        sorted.sort_unstable();
        let middle = units / 2;
        let twice =
            if units % 2 == 1 { 2 * sorted[middle] } else { sorted[middle - 1] + sorted[middle] };
        if twice % 2 == 0 { (twice / 2).to_string() } else { format!("{}.5", twice / 2) }
    };
    let input = format!(
        "You should answer with only one number, no other words. The {} of the list is: ",
        ASKED[asked]
    );
    let list: Vec<String> = list.iter().map(ToString::to_string).collect();
    (format!("[{}]", list.join(", ")), input, answer)
}
