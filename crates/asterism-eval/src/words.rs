//! The English words RULER draws keys and lists from: the lists of wonderwords, compiled in.

use super::random::PythonRandom;

const NOUNS: &str = include_str!("data/wonderwords/nounlist.txt");
const ADJECTIVES: &str = include_str!("data/wonderwords/adjectivelist.txt");
const VERBS: &str = include_str!("data/wonderwords/verblist.txt");

/// The words of `lists`, each once, in the order of their code points.
fn sorted(lists: &[&'static str]) -> Vec<&'static str> {
    let mut words: Vec<_> = lists.iter().flat_map(|list| list.lines()).map(str::trim_end).collect();
    words.sort_unstable();
    words.dedup();
    words
}

/// Every noun, adjective and verb once, shuffled as `random.Random(seed)` shuffles them.
pub(crate) fn pool(seed: u64) -> Vec<&'static str> {
    let mut words = sorted(&[NOUNS, ADJECTIVES, VERBS]);
    PythonRandom::new(seed).shuffle(&mut words);
    words
}

/// Every `adjective-noun`, sorted, without a list of all six million of them.
///
/// All pairs of one adjective stand together, but for an adjective that continues another one after
/// a hyphen: the pairs of `old-fashioned` stand among those of `old`. Only those are listed.
#[derive(Debug)]
pub(crate) struct WordPairs {
    nouns: Vec<&'static str>,
    groups: Vec<Group>,
}

/// The pairs of an adjective and of those that continue it.
#[derive(Debug)]
struct Group {
    /// Pairs before this group.
    first: usize,
    adjective: &'static str,
    /// The pairs of a group of several adjectives, sorted; empty for one adjective.
    mixed: Vec<String>,
}

impl WordPairs {
    pub(crate) fn new() -> Self {
        let nouns = sorted(&[NOUNS]);
        let mut adjectives = sorted(&[ADJECTIVES]);
        adjectives.sort_by_key(|adjective| format!("{adjective}-"));
        let mut groups = Vec::<Group>::new();
        let mut first = 0;
        for chunk in adjectives.chunk_by(|a, b| continues(a, b)) {
            let adjective = chunk[0];
            let mut mixed = Vec::new();
            if chunk.len() > 1 {
                for a in chunk {
                    mixed.extend(nouns.iter().map(|noun| format!("{a}-{noun}")));
                }
                mixed.sort_unstable();
                mixed.dedup();
            }
            let pairs = if mixed.is_empty() { nouns.len() } else { mixed.len() };
            groups.push(Group { first, adjective, mixed });
            first += pairs;
        }
        groups.push(Group { first, adjective: "", mixed: Vec::new() });
        Self { nouns, groups }
    }

    /// The number of pairs.
    pub(crate) fn len(&self) -> usize {
        self.groups.last().map_or(0, |end| end.first)
    }

    /// The pair at `index`, which is below [`len`](Self::len).
    pub(crate) fn get(&self, index: usize) -> String {
        let group = &self.groups[self.groups.partition_point(|group| group.first <= index) - 1];
        let within = index - group.first;
        match group.mixed.get(within) {
            Some(pair) => pair.clone(),
            None => format!("{}-{}", group.adjective, self.nouns[within]),
        }
    }
}

/// Whether `b` is `a`, a hyphen and more.
fn continues(a: &str, b: &str) -> bool {
    b.strip_prefix(a).is_some_and(|rest| rest.starts_with('-'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_are_those_of_a_sorted_set() {
        let pairs = WordPairs::new();
        let mut listed: Vec<String> = sorted(&[ADJECTIVES])
            .iter()
            .flat_map(|a| pairs.nouns.iter().map(move |n| format!("{a}-{n}")))
            .collect();
        listed.sort_unstable();
        listed.dedup();
        assert_eq!((pairs.len(), listed.len()), (6_175_260, 6_175_260));
        // Every 101st, and all around the adjectives that continue another.
        for (index, pair) in listed.iter().enumerate() {
            if index % 101 == 0 || pair.starts_with("old") || pair.starts_with("blue") {
                assert_eq!(pairs.get(index), *pair, "{index}");
            }
        }
    }

    #[test]
    fn the_pool_holds_each_word_once() {
        let words = pool(42);
        assert_eq!(words.len(), 8_169);
        assert_eq!(sorted(&[NOUNS]).len(), 6_786);
    }
}
