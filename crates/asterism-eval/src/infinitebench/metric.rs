//! How InfiniteBench scores its ten tasks: character by character what its `compute_scores.py`
//! does.
//!
//! Answers are lists of strings, whatever form the data has them in; see [`read`](super::read).

/// Marks that scoring of retrieved words takes for spaces.
const MARKS: [char; 10] = ['\n', ':', '"', '\'', '.', ',', '?', '!', '{', '}'];

/// The first run of digits is the answer.
pub(crate) fn first_integer(prediction: &str, answers: &[String]) -> f64 {
    let digits = |c: char| c.is_ascii_digit();
    let first = prediction.split(|c| !digits(c)).find(|run| !run.is_empty()).unwrap_or("");
    f64::from(answers.first().is_some_and(|answer| answer == first))
}

/// The answer is one of the words between spaces and marks.
pub(crate) fn word(prediction: &str, answers: &[String]) -> f64 {
    let replaced = prediction.replace(MARKS, " ");
    let held = |answer: &String| replaced.split_whitespace().any(|word| word == answer);
    f64::from(answers.first().is_some_and(held))
}

/// The first name, in capitals, is one of the words: a name of several words never is.
pub(crate) fn name(prediction: &str, answers: &[String]) -> f64 {
    word(&prediction.trim().to_uppercase(), answers)
}

/// The first number equals the answer; for a whole one its fraction is cut off.
pub(crate) fn first_number(prediction: &str, answers: &[String]) -> f64 {
    let Some(start) = prediction.find(|c: char| c.is_ascii_digit()) else { return 0.0 };
    let number = &prediction[start..];
    let digits = |text: &str| text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let whole = digits(number);
    let fraction = number[whole..].strip_prefix('.').map_or(0, digits);
    let end = if fraction > 0 { whole + 1 + fraction } else { whole };
    let (Ok(found), Some(answer)) = (number[..end].parse::<f64>(), answers.first()) else {
        return 0.0;
    };
    let equal = match answer.parse::<i64>() {
        Ok(answer) => found.trunc() == answer as f64,
        Err(_) => answer.parse::<f64>().is_ok_and(|answer| answer == found),
    };
    f64::from(equal)
}

/// The letter or the name of the function with the error; `answers` are name and letter.
pub(crate) fn code_choice(prediction: &str, answers: &[String]) -> f64 {
    let [name, letter] = answers else { return 0.0 };
    let prediction = prediction.trim();
    if [".", ":"].iter().any(|mark| prediction.starts_with(&format!("{letter}{mark}"))) {
        return 1.0;
    }
    let mut text = prediction.replace(['\n', '`', '\'', '"', '-', '*'], " ");
    text = text.replace("Option", " ").replace("option", " ");
    let text = single_spaced(&text);
    for cue in ["answer is:", "is:", "answer:", "correct option is:"] {
        if let Some(rest) = after(&text, cue) {
            return f64::from(rest.starts_with(letter.as_str()) || rest.starts_with(name.as_str()));
        }
    }
    0.0
}

/// The letter or the text of the right option; `answers` are both.
pub(crate) fn choice(prediction: &str, answers: &[String]) -> f64 {
    let held = |text: &str| f64::from(answers.iter().any(|answer| answer == text));
    let prediction = prediction.trim();
    let Some(first) = prediction.chars().next() else { return 0.0 };
    if "ABCD".contains(first) {
        return held(first.encode_utf8(&mut [0; 4]));
    }
    if held(prediction) == 1.0 {
        return 1.0;
    }
    let replaced = prediction.replace(['\n', '"', '\'', '.', ',', '?', '!', '{', '}'], " ");
    let text = single_spaced(&replaced);
    for cue in ["answer is:", "answer:", "answer is", "option is"] {
        if let Some(rest) = after(&text, cue) {
            return f64::from(answers.iter().any(|answer| rest.starts_with(answer.as_str())));
        }
    }
    text.split_whitespace().find(|word| "ABCD".contains(word)).map_or(0.0, held)
}

/// What follows `cue` in `text` and one more character; nothing when `text` ends with the cue.
fn after<'a>(text: &'a str, cue: &str) -> Option<&'a str> {
    let at = text.find(cue)? + cue.len();
    let mut rest = text[at..].chars();
    // An answer that ends with the cue decides too: it is wrong.
    Some(rest.next().map_or("\0", |_| rest.as_str()))
}

/// `text` with each run of spaces one space.
fn single_spaced(text: &str) -> String {
    let mut spaced = String::with_capacity(text.len());
    for c in text.chars() {
        if c != ' ' || !spaced.ends_with(' ') {
            spaced.push(c);
        }
    }
    spaced
}

#[cfg(test)]
mod tests {
    use super::*;

    fn strings(answers: &[&str]) -> Vec<String> {
        answers.iter().map(|&answer| answer.to_owned()).collect()
    }

    #[test]
    fn retrieval() {
        type Score = fn(&str, &[String]) -> f64;
        let cases: [(Score, &str, &[&str], f64); 45] = [
            (first_integer, " 71432.", &["71432"], 1.0),
            (first_integer, "The key is 71432, not 1", &["71432"], 1.0),
            (first_integer, "7 1432", &["71432"], 0.0),
            (first_integer, "714321", &["71432"], 0.0),
            (first_integer, "", &["71432"], 0.0),
            (first_integer, "none", &[""], 1.0),
            (word, "\"abc-1\": \"def-2\"}", &["def-2"], 1.0),
            (word, "def-23", &["def-2"], 0.0),
            (word, "The value is def-2!", &["def-2"], 1.0),
            (word, "", &["def-2"], 0.0),
            (name, "probably Lucy.", &["LUCY"], 1.0),
            (name, "JOHN SMITH", &["JOHN SMITH"], 0.0),
            (name, "Lucy's", &["LUCY"], 1.0),
            (name, "lucy", &["ANN", "LUCY"], 0.0),
            (first_number, "71", &["71"], 1.0),
            (first_number, "is 85.5 or", &["85.5"], 1.0),
            (first_number, "85.5", &["85"], 1.0),
            (first_number, "85.", &["85"], 1.0),
            (first_number, "-3", &["3"], 1.0),
            (first_number, "85", &["85.5"], 0.0),
            (first_number, "85", &["85.0"], 1.0),
            (first_number, "no number", &["3"], 0.0),
            (code_choice, "B. run", &["run", "B"], 1.0),
            (code_choice, "B: run", &["run", "B"], 1.0),
            (code_choice, "B", &["run", "B"], 0.0),
            (code_choice, "The answer is: B", &["run", "B"], 1.0),
            (code_choice, "The correct option is: `run`", &["run", "B"], 1.0),
            (code_choice, "The error is: A", &["run", "B"], 0.0),
            (code_choice, "the answer is:", &["run", "B"], 0.0),
            (code_choice, "answer is: C, so the answer: B", &["run", "B"], 0.0),
            (code_choice, "", &["run", "B"], 0.0),
            (choice, "B", &["Ann", "B"], 1.0),
            (choice, "Because", &["Ann", "B"], 1.0),
            (choice, "Ann", &["Ann", "B"], 0.0),
            (choice, "ann", &["ann", "B"], 1.0),
            (choice, "The answer is: B", &["Ann", "B"], 1.0),
            (choice, "the answer: Ann", &["Ann", "B"], 1.0),
            (choice, "the answer is C", &["Ann", "B"], 0.0),
            (choice, "the answer is", &["Ann", "B"], 0.0),
            (choice, "it must be B, not C", &["Ann", "B"], 1.0),
            (choice, "it must be CD", &["Ann", "CD"], 1.0),
            (choice, "it must be C, not B", &["Ann", "B"], 0.0),
            (choice, "  ", &["Ann", "B"], 0.0),
            (choice, "option is \"B\"", &["Ann", "B"], 1.0),
            (choice, "nothing", &["Ann", "B"], 0.0),
        ];
        for (index, (score, prediction, answers, expected)) in cases.into_iter().enumerate() {
            assert_eq!(score(prediction, &strings(answers)), expected, "{index}: {prediction}");
        }
    }
}
