//! Scores by what a prediction and an answer have in common: F1 over words or characters,
//! ROUGE-Lsum.

use std::collections::HashMap;

/// Marks of Chinese text that count for nothing.
const CHINESE_MARKS: &str = "！？｡。＂＃＄％＆＇（）＊＋，－／：；＜＝＞＠［＼］＾＿｀｛｜｝～｟｠｢｣､、〃》「」『』【】〔〕〖〗〘〙〚〛〜〝〞〟〰〾〿–—‘’‛“”„‟…‧﹏.";

/// F1 over words without case, ASCII marks and articles, of the answer that fits best.
pub(crate) fn word_f1(prediction: &str, answers: &[String]) -> f64 {
    let words = |text: &str| -> Vec<String> {
        let marks = |c: char| c.is_ascii_punctuation();
        let text: String = text.to_lowercase().chars().filter(|&c| !marks(c)).collect();
        without_articles(&text).split_whitespace().map(str::to_owned).collect()
    };
    let predicted = words(prediction);
    answers.iter().map(|answer| f1(&predicted, &words(answer))).fold(0.0, f64::max)
}

/// F1 over characters without white space and marks, of the answer that fits best.
pub(crate) fn character_f1(prediction: &str, answers: &[String]) -> f64 {
    let characters = |text: &str| -> Vec<char> {
        let kept = |c: &char| {
            !c.is_whitespace() && !c.is_ascii_punctuation() && !CHINESE_MARKS.contains(*c)
        };
        text.to_lowercase().chars().filter(kept).collect()
    };
    let predicted = characters(prediction);
    answers.iter().map(|answer| f1(&predicted, &characters(answer))).fold(0.0, f64::max)
}

/// `text` with the words a, an and the as spaces.
fn without_articles(text: &str) -> String {
    let word = |c: char| c.is_alphanumeric() || c == '_';
    let mut kept = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let inside = word(first);
        let end = rest.find(|c| word(c) != inside).unwrap_or(rest.len());
        let (run, after) = rest.split_at(end);
        kept.push_str(if matches!(run, "a" | "an" | "the") { " " } else { run });
        rest = after;
    }
    kept
}

/// F1 of two bags.
fn f1<T: std::hash::Hash + Eq>(predicted: &[T], answer: &[T]) -> f64 {
    let mut bag = counts(answer);
    let mut same = 0;
    for item in predicted {
        if let Some(left @ 1..) = bag.get_mut(item) {
            *left -= 1;
            same += 1;
        }
    }
    harmonic(same, predicted.len(), answer.len())
}

fn counts<T: std::hash::Hash + Eq>(items: &[T]) -> HashMap<&T, usize> {
    let mut bag = HashMap::new();
    for item in items {
        *bag.entry(item).or_default() += 1;
    }
    bag
}

/// The F-measure of `same` hits among `predicted` and `wanted` items.
fn harmonic(same: usize, predicted: usize, wanted: usize) -> f64 {
    if same == 0 {
        return 0.0;
    }
    let (precision, recall) = (same as f64 / predicted as f64, same as f64 / wanted as f64);
    2.0 * precision * recall / (precision + recall)
}

/// ROUGE-Lsum's F-measure as the `rouge_score` package computes it, without stemming, of the answer
/// that fits best: longest common subsequences of each line of the answer with every line of the
/// prediction, united.
pub(crate) fn rouge_lsum(prediction: &str, answers: &[String]) -> f64 {
    let predicted = lines(prediction);
    answers.iter().map(|answer| summary_overlap(&lines(answer), &predicted)).fold(0.0, f64::max)
}

/// The lines of a text as words of ASCII letters and digits.
fn lines(text: &str) -> Vec<Vec<String>> {
    let words = |line: &str| {
        let lower = line.to_lowercase();
        let words =
            lower.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty());
        words.map(str::to_owned).collect()
    };
    text.split('\n').filter(|line| !line.is_empty()).map(words).collect()
}

fn summary_overlap(answer: &[Vec<String>], predicted: &[Vec<String>]) -> f64 {
    let (mut wanted, mut given) = (HashMap::new(), HashMap::new());
    for (bag, lines) in [(&mut wanted, answer), (&mut given, predicted)] {
        for word in lines.iter().flatten() {
            *bag.entry(word.as_str()).or_insert(0_usize) += 1;
        }
    }
    let mut hits = 0;
    for line in answer {
        let mut union = vec![false; line.len()];
        for other in predicted {
            for index in common_subsequence(line, other) {
                union[index] = true;
            }
        }
        for (word, _) in line.iter().zip(union).filter(|(_, common)| *common) {
            let left = [given.get(word.as_str()), wanted.get(word.as_str())];
            if left.iter().all(|left| left.is_some_and(|&left| left > 0)) {
                hits += 1;
                for bag in [&mut given, &mut wanted] {
                    if let Some(left) = bag.get_mut(word.as_str()) {
                        *left -= 1;
                    }
                }
            }
        }
    }
    let total = |lines: &[Vec<String>]| lines.iter().map(Vec::len).sum();
    harmonic(hits, total(predicted), total(answer))
}

/// Which words of `a` make up a longest common subsequence with `b`; of several, the one that
/// `rouge_score` walks back to.
fn common_subsequence(a: &[String], b: &[String]) -> Vec<usize> {
    // Shape [a + 1, b + 1]: lengths for the first i and j words.
    let width = b.len() + 1;
    let mut lengths = vec![0_u32; (a.len() + 1) * width];
    for i in 1..=a.len() {
        for j in 1..=b.len() {
            lengths[i * width + j] = if a[i - 1] == b[j - 1] {
                lengths[(i - 1) * width + j - 1] + 1
            } else {
                lengths[(i - 1) * width + j].max(lengths[i * width + j - 1])
            };
        }
    }
    let (mut i, mut j, mut common) = (a.len(), b.len(), Vec::new());
    while i > 0 && j > 0 {
        if a[i - 1] == b[j - 1] {
            (i, j) = (i - 1, j - 1);
            common.push(i);
        } else if lengths[i * width + j - 1] > lengths[(i - 1) * width + j] {
            j -= 1;
        } else {
            i -= 1;
        }
    }
    common
}

#[cfg(test)]
mod tests {
    use super::*;

    fn strings(answers: &[&str]) -> Vec<String> {
        answers.iter().map(|&answer| answer.to_owned()).collect()
    }

    // The values are those of the benchmark's own functions on the same texts.
    #[test]
    fn overlap() {
        for (prediction, answers, expected) in [
            ("The Cat, sat!", &["a cat sat", "dog"][..], 1.0),
            ("the cat sat on the mat", &["cat mat"], 2.0 * 0.5 / 1.5),
            ("x", &["y", "the"], 0.0),
            ("\u{201c}the cat\u{201d}", &["cat"], 0.0),
            ("the the", &["the"], 0.0),
        ] {
            assert!(
                (word_f1(prediction, &strings(answers)) - expected).abs() < 1e-12,
                "{prediction}"
            );
        }
        for (prediction, answers, expected) in [
            ("我 爱，北京。", &["我爱北京"][..], 1.0),
            ("我爱你", &["我爱北京"], 2.0 * (2.0 / 3.0) * 0.5 / (2.0 / 3.0 + 0.5)),
            ("……", &["我"], 0.0),
        ] {
            let score = character_f1(prediction, &strings(answers));
            assert!((score - expected).abs() < 1e-12, "{prediction}");
        }
    }

    // Scored by the rouge_score package.
    #[test]
    fn rouge() {
        let cases: [(&str, &str, f64); 16] = [
            (
                "Fox ran 12 sat mat,\ndog far-away the\na Fox, sat sat, sat the",
                "sat a. on\nÜber dog.",
                0.2,
            ),
            ("dog sat. cat. a far-away.", "mat. ran. sat, ran", 0.2),
            ("the. dog It's, mat,", "the far-away cat ran. It's. It's. Fox,", 0.4),
            ("a dog on. It's. sat.", "a.\nsat 12 Über. ran\n", 0.3636363636363636),
            (
                "the Über. a, 12, sat 12",
                "on Über 12, cat dog.\nthe, a\nfar-away It's, ran. ran. a, dog cat,\n12, mat",
                0.4166666666666667,
            ),
            (
                "a. cat. Über Fox. mat. ran. Fox.",
                "far-away ran.\n12. ran. It's. mat. 12.\nmat Über, mat. It's It's on.",
                0.25,
            ),
            (
                "Über Über, sat, a.\n\nsat, far-away on\n",
                "sat sat mat\non dog, mat, 12 far-away on. the.\na, cat. the. cat. It's. far-away.\nsat, dog. ran sat, far-away,",
                0.36363636363636365,
            ),
            (
                "far-away mat\ncat. far-away mat, dog, on, a,",
                "sat. Über. ran. dog mat. ran.\nran cat,\na Fox dog\nIt's. on, Fox on, a Über. a,",
                0.3448275862068966,
            ),
            (
                "the\na. far-away. Über ran.\n12 the a, 12 12\n",
                "far-away, dog, dog a, Fox a\nfar-away. 12, a sat, Über, mat\nfar-away cat a Fox 12 mat,\ndog,",
                0.4242424242424242,
            ),
            ("cat", "a, sat", 0.0),
            ("Fox cat the 12, Über a\nÜber,", "\ncat. 12, ran. 12. the Über.", 0.4615384615384615),
            ("It's a It's a.\nFox mat,", "sat 12.\nfar-away\ncat,\ndog, ran. cat", 0.0),
            (
                "\ndog Über\n12,\nsat, mat a.",
                "dog Über. 12. Fox, mat far-away\ndog cat\n",
                0.5333333333333333,
            ),
            (
                "on ran, 12.\n",
                "a, mat, ran on 12 cat. dog,\nIt's. cat.\nFox. 12\n",
                0.26666666666666666,
            ),
            ("the cat", "the cat", 1.0),
            ("", "x", 0.0),
        ];
        for (prediction, answer, expected) in cases {
            let score = rouge_lsum(prediction, &strings(&[answer]));
            assert!(
                (score - expected).abs() < 1e-12,
                "{prediction:?} {answer:?}: {score} {expected}"
            );
        }
    }
}
