//! Whether a prediction gives the one label it should.

use std::collections::BTreeSet;

const ROOMS: &[&str] = &["bathroom", "bedroom", "garden", "hallway", "kitchen", "office"];
const YES_NO: &[&str] = &["no", "yes"];

/// The labels that can answer a task.
pub(super) fn labels(task: u8) -> &'static [&'static str] {
    match task {
        1..=4 | 11..=13 => ROOMS,
        5 => &["bill", "fred", "jeff", "mary", "apple", "football", "milk"],
        7 => &["none", "one", "three", "two"],
        8 => &["apple", "football", "milk", "nothing"],
        10 => &["maybe", "no", "yes"],
        14 => &["bedroom", "cinema", "kitchen", "office", "park", "school"],
        15 => &["cat", "mouse", "sheep", "wolf"],
        16 => &["gray", "green", "white", "yellow"],
        19 => &["e,e", "e,n", "e,s", "n,e", "n,n", "n,w", "s,e", "s,s", "s,w", "w,n", "w,s", "w,w"],
        20 => &["bedroom", "bored", "garden", "hungry", "kitchen", "thirsty", "tired"],
        _ => YES_NO,
    }
}

/// BABILong's `compare_answers`: of the labels in the first sentence of `output`, those in the
/// question left out, the target is the only one; or for a list, they are those of the list.
///
/// Labels are found as parts of words, so "no" is found in "not", and "one" in "none": no
/// prediction is right where task 7's answer is "none", which is nearly half the time. Published
/// scores have it so.
pub fn compare_answers(task: u8, target: &str, output: &str, question: &str) -> bool {
    let output = output.to_lowercase();
    let first = |text: &str, end: &str| text.split(end).next().unwrap_or_default().to_owned();
    let output = first(&first(&first(&output, "."), "<context>"), "<example>");
    let (target, question) = (target.to_lowercase(), question.to_lowercase());
    let found: BTreeSet<&str> = labels(task)
        .iter()
        .copied()
        .filter(|label| output.contains(label) && !question.contains(label))
        .collect();
    // Paths such as "s,w" are one label of three characters.
    if target.contains(',') && target.chars().count() > 3 {
        let parts: Vec<&str> = target.split(',').collect();
        return parts.len() == found.len() && parts.iter().all(|part| found.contains(part));
    }
    found.len() == 1 && found.contains(target.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cases() {
        for (task, target, output, question, correct) in [
            (1, "kitchen", "The most recent location of John is kitchen.", "Where is John? ", true),
            (1, "kitchen", "KITCHEN", "Where is John? ", true),
            (1, "kitchen", "kitchen. Then the office.", "Where is John? ", true),
            (1, "kitchen", "kitchen or office", "Where is John? ", false),
            (1, "kitchen", "office", "Where is John? ", false),
            (1, "kitchen", "", "Where is John? ", false),
            (1, "kitchen", "kitchen <context> office", "Where is John? ", true),
            (1, "kitchen", "kitchen <example> office", "Where is John? ", true),
            // The cut at "Question" looks for a capital in lower-cased text: it never cuts.
            (1, "kitchen", "kitchen Question: office?", "Where is John? ", false),
            (
                3,
                "garden",
                "Before the office the milk was in the garden",
                "Where was the milk before the office? ",
                true,
            ),
            (3, "garden", "garden, kitchen", "Where was the milk before the office? ", false),
            (5, "Fred", "fred", "Who did Mary give the apple to? ", true),
            (5, "Fred", "Mary gave it to Fred", "Who did Mary give the apple to? ", true),
            (5, "Fred", "Bill gave it to Fred", "Who did Mary give the apple to? ", false),
            (6, "no", "It is not there", "Is John in the garden? ", true),
            (6, "yes", "yes, I know", "Is John in the garden? ", false),
            (7, "none", "none", "How many objects is Mary carrying? ", false),
            (7, "one", "one", "How many objects is Mary carrying? ", true),
            (8, "apple,milk", "milk and apple", "What is Daniel carrying? ", true),
            (8, "apple,milk", "apple", "What is Daniel carrying? ", false),
            (8, "apple", "apple, milk", "What is Daniel carrying? ", false),
            (8, "apple,milk", "apple, milk, football", "What is Daniel carrying? ", false),
            (19, "s,e", "s,e", "How do you go from the kitchen to the garden?", true),
            (19, "s,e", "s, e", "How do you go from the kitchen to the garden?", false),
            (
                19,
                "s,e",
                "The way is s,e and then n,w",
                "How do you go from the kitchen to the garden?",
                false,
            ),
        ] {
            assert_eq!(compare_answers(task, target, output, question), correct, "{task} {output}");
        }
    }
}
