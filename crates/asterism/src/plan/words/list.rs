//! Several methods, with commas between them.

use super::MethodWord;

/// Methods in the order given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MethodList(pub Vec<MethodWord>);

impl MethodList {
    /// Reads methods with commas between them. A setting may also follow its method after a comma,
    /// as in `star:block=4k,anchor=1k`: no method has `=` in its name.
    ///
    /// # Errors
    /// As [`MethodWord::parse`].
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut words: Vec<String> = Vec::new();
        for part in text.split(',') {
            let is_setting = part.split(':').next().is_some_and(|name| name.contains('='));
            match words.last_mut().filter(|_| is_setting) {
                Some(word) => *word = format!("{word}:{}", part.trim()),
                None => words.push(part.to_owned()),
            }
        }
        words.iter().map(|word| MethodWord::parse(word)).collect::<Result<_, _>>().map(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::Sparse;
    use crate::plan::words::Defaults;

    #[test]
    fn the_settings_of_a_pattern_follow_it() {
        let list = MethodList::parse("star:block=16k:sparse=flexprefill,gamma=0.9,dense").unwrap();
        let names: Vec<String> = list.0.iter().map(ToString::to_string).collect();
        assert_eq!(names, ["star:block=16k:sparse=flexprefill:gamma=0.9:tau=0.1:min=1k", "dense"]);
        let plan = list.0[0].plan_spec(100_000, 3, Defaults::Paper);
        assert_eq!(plan.method.sparse(), Some(Sparse::parse("flexprefill:gamma=0.9").unwrap()));
        // A pattern alone is a method, on one host.
        let spec = MethodWord::parse("MInference:slash=1k").unwrap();
        let spec = spec.plan_spec(100, 2, Defaults::Paper);
        let error = crate::plan::Plan::new(spec, 100).unwrap_err().to_string();
        assert!(error.contains("minference runs on one host, not on 2"), "{error}");
    }

    #[test]
    fn a_comma_may_stand_before_a_setting() {
        let names = |text: &str| -> Result<Vec<String>, String> {
            Ok(MethodList::parse(text)?.0.iter().map(ToString::to_string).collect())
        };
        let expected = ["dense", "star:block=1/4", "star:block=4k:anchor=1k", "ring"];
        let given = "dense,star:block=1/4,star:block=4k,anchor=1k,ring";
        assert_eq!(names(given).unwrap(), expected);
        assert_eq!(
            names("dense, star:block=1/4, star:block=4k:anchor=1k ,ring").unwrap(),
            expected
        );
        for (text, word) in [
            ("anchor=1k,dense", "anchor=1k"),
            ("dense,anchor=1k", "dense"),
            ("ring,,", "no method"),
        ] {
            let message = names(text).unwrap_err();
            assert!(message.contains(word), "{text}: {message}");
        }
    }
}
