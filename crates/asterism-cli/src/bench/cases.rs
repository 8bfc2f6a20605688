//! What is to be measured: every method at every length on every number of hosts.

use crate::args::BenchArgs;
use crate::config::distinct;
use crate::error::CliError;
use crate::report;
use asterism::model::ModelConfig;
use asterism::plan::words::MethodName;
use asterism::plan::words::{Defaults, MethodWord};
use asterism::plan::{Cost, Plan};

/// One method at one length on some hosts.
#[derive(Debug, Clone)]
pub(super) struct Case {
    pub(super) method: MethodWord,
    pub(super) plan: Plan,
    pub(super) cost: Cost,
    /// Tokens of every question.
    pub(super) query: usize,
    /// How many questions are asked at once, one number after the other.
    pub(super) sequences: Vec<usize>,
    /// The share of the weights that each host reads for a token of an answer.
    pub(super) weights_read: f64,
}

impl Case {
    pub(super) fn hosts(&self) -> usize {
        self.plan.spec.hosts
    }
}

/// All cases, by length, hosts and method; the methods in the order given.
///
/// # Errors
/// A value given twice, an impossible block or anchor, a context that does not fit the model.
pub(super) fn all(args: &BenchArgs, model: &ModelConfig) -> Result<Vec<Case>, CliError> {
    distinct("--lengths", &args.lengths)?;
    distinct("--hosts", &args.hosts)?;
    distinct("--methods", &args.methods)?;
    distinct("--sequences", &args.sequences)?;
    if args.query_tokens == 0 {
        return Err(CliError::Usage("--query-tokens is 0: a question has a token or more".into()));
    }
    let size = args.model.size(model);
    let mut cases = Vec::new();
    for &tokens in &args.lengths {
        let needed = args.positions(tokens, model.layers);
        if needed > model.max_positions {
            return Err(CliError::Usage(format!(
                "--lengths {tokens} with --query-tokens {} and --decode-tokens {} takes {needed} \
                 positions, but the model has {}: shorten one of them",
                args.query_tokens, args.decode_tokens, model.max_positions
            )));
        }
        for &hosts in &args.hosts {
            for &method in &args.methods {
                let plan = Plan::new(
                    method.plan_spec(tokens, usize::from(hosts), Defaults::Paper),
                    tokens,
                )
                .map_err(|error| {
                    let tokens = report::count(tokens);
                    CliError::Usage(format!("{method} of {tokens} tokens: {error}"))
                })?;
                let cost = Cost::of(&plan, &size);
                let sequences = args.sequences.iter().copied().map(usize::from).collect();
                let sliced = args.model.sliced_token(model, usize::from(hosts));
                let weights_read = sliced.map_or(1.0, |token| token.share());
                let query = args.query_tokens;
                cases.push(Case { method, plan, cost, query, sequences, weights_read });
            }
        }
    }
    Ok(cases)
}

/// The method that the others are compared with: dense, or the first.
pub(super) fn baseline(methods: &[MethodWord]) -> Option<MethodWord> {
    let dense = methods.iter().find(|method| method.name() == MethodName::Dense);
    dense.or(methods.first()).copied()
}

#[cfg(test)]
mod tests {
    use super::*;
    use asterism::model::Shape;
    use clap::{Args, Command, FromArgMatches};

    fn cases(line: &str) -> Result<Vec<Case>, CliError> {
        let command = BenchArgs::augment_args(Command::new("bench").no_binary_name(true));
        let args = BenchArgs::from_arg_matches(&command.get_matches_from(line.split(' '))).unwrap();
        let model = "small".parse::<Shape>().unwrap().config().unwrap();
        all(&args, &model)
    }

    #[test]
    fn every_combination_is_a_case() {
        let cases =
            cases("--lengths 1k,2k --hosts 1,3 --methods ring,star:block=1/4,dense").unwrap();
        assert_eq!(cases.len(), 12);
        let star = &cases[10];
        let block = star.plan.spec.method.as_star().unwrap().block;
        assert_eq!((star.plan.tokens, star.hosts(), block), (2048, 3, 512));
        let methods: Vec<_> = cases[..3].iter().map(|case| case.method).collect();
        assert_eq!(baseline(&methods), Some(methods[2]));
        assert_eq!(baseline(&methods[..2]), Some(methods[0]));
    }

    #[test]
    fn what_cannot_be_is_refused_with_its_numbers() {
        for (line, expected) in [
            ("--lengths 1k,1024", "1024 is given twice"),
            ("--methods star,star:block=4k", "star:block=4k is given twice"),
            ("--hosts 2,2", "2 is given twice"),
            ("--sequences 1,4,4", "4 is given twice"),
            ("--lengths 0", "empty"),
            ("--lengths 1k --methods star:block=512:anchor=1k", "1024"),
            ("--lengths 32 --methods star:block=1/4", "block of 8 tokens"),
            ("--lengths 128k", "131106"),
            ("--lengths 4k --decode-tokens 127k", "131072"),
            ("--lengths 4k --query-tokens 127k", "131072"),
            ("--query-tokens 0", "a token or more"),
            // Each of two answers may come as many tokens before the other as there are layers.
            ("--lengths 131000 --sequences 2 --decode-tokens 69", "131072"),
        ] {
            let message = cases(line).unwrap_err().to_string();
            assert!(message.contains(expected), "{line}: {message}");
        }
        assert!(cases("--lengths 131070 --decode-tokens 0").is_ok());
    }
}
