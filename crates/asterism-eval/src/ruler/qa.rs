//! Questions about documents: a gold paragraph among many others, from SQuAD or HotpotQA files.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::path::Path;

use serde::Deserialize;
use serde_json::json;

use crate::random::PythonRandom;
use crate::{ChatFrame, EvalError};

use super::Variant;
use super::fit::{Draft, Draws, Family};
use super::texts::{QA, fill, python_list};

/// Documents and the questions about them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Corpus {
    /// Each once, sorted.
    documents: Vec<String>,
    questions: Vec<Question>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Question {
    query: String,
    answers: Vec<String>,
    /// Documents that answer it.
    gold: Vec<usize>,
    /// The other documents of the same article.
    more: Vec<usize>,
}

#[derive(Deserialize)]
struct Squad {
    data: Vec<SquadArticle>,
}

#[derive(Deserialize)]
struct SquadArticle {
    paragraphs: Vec<SquadParagraph>,
}

#[derive(Deserialize)]
struct SquadParagraph {
    context: String,
    qas: Vec<SquadQuestion>,
}

#[derive(Deserialize)]
struct SquadQuestion {
    question: String,
    #[serde(default)]
    is_impossible: bool,
    answers: Vec<SquadAnswer>,
}

#[derive(Deserialize)]
struct SquadAnswer {
    text: String,
}

#[derive(Deserialize)]
struct HotpotQuestion {
    question: String,
    answer: String,
    context: Vec<(String, Vec<String>)>,
}

impl Corpus {
    /// SQuAD v2.0's `dev-v2.0.json`.
    ///
    /// # Errors
    ///
    /// [`EvalError::Io`], or [`EvalError::BadFile`] with the place in the JSON.
    pub(super) fn squad(path: &Path) -> Result<Self, EvalError> {
        let squad: Squad = read_json(path, "SQuAD's dev-v2.0.json")?;
        let articles = || squad.data.iter();
        let paragraphs = articles().flat_map(|article| &article.paragraphs);
        let (documents, index) = unique(paragraphs.map(|paragraph| paragraph.context.clone()));
        let mut questions = Vec::new();
        for article in articles() {
            let of_article: Vec<usize> =
                article.paragraphs.iter().map(|paragraph| index[&paragraph.context]).collect();
            for paragraph in &article.paragraphs {
                let gold = index[&paragraph.context];
                let answerable = paragraph.qas.iter().filter(|question| !question.is_impossible);
                questions.extend(answerable.map(|question| Question {
                    query: question.question.clone(),
                    answers: question.answers.iter().map(|answer| answer.text.clone()).collect(),
                    gold: vec![gold],
                    more: of_article.iter().copied().filter(|&other| other != gold).collect(),
                }));
            }
        }
        Ok(Self { documents, questions })
    }

    /// HotpotQA's `hotpot_dev_distractor_v1.json`.
    ///
    /// # Errors
    ///
    /// [`EvalError::Io`], or [`EvalError::BadFile`] with the place in the JSON.
    pub(super) fn hotpot(path: &Path) -> Result<Self, EvalError> {
        let asked: Vec<HotpotQuestion> =
            read_json(path, "HotpotQA's hotpot_dev_distractor_v1.json")?;
        let document =
            |(title, sentences): &(String, Vec<String>)| format!("{title}\n{}", sentences.concat());
        let (documents, index) = unique(asked.iter().flat_map(|q| q.context.iter().map(document)));
        let questions = asked.iter().map(|question| Question {
            query: question.question.clone(),
            answers: vec![question.answer.clone()],
            gold: question.context.iter().map(|d| index[&document(d)]).collect(),
            more: Vec::new(),
        });
        Ok(Self { questions: questions.collect(), documents })
    }

    /// The number of questions that have an answer.
    pub(super) fn questions(&self) -> usize {
        self.questions.len()
    }
}

fn read_json<T: serde::de::DeserializeOwned>(path: &Path, what: &str) -> Result<T, EvalError> {
    let bytes = crate::files::read(path)?;
    serde_json::from_slice(asterism::files::without_mark(&bytes)).map_err(|error| {
        EvalError::BadFile { path: path.into(), reason: format!("this is not {what}: {error}") }
    })
}

/// The documents once each, sorted, and where each stands.
fn unique(documents: impl Iterator<Item = String>) -> (Vec<String>, HashMap<String, usize>) {
    let documents: Vec<String> = documents.collect::<BTreeSet<_>>().into_iter().collect();
    let index = documents.iter().enumerate().map(|(i, document)| (document.clone(), i)).collect();
    (documents, index)
}

/// The generator.
pub(super) struct Questions<'a> {
    pub(super) variant: Variant,
    pub(super) seed: u64,
    /// Whether samples are to be drawn as upstream draws them.
    pub(super) exact: bool,
    pub(super) reserved: usize,
    pub(super) corpus: &'a Corpus,
    pub(super) context: String,
    pub(super) query: String,
    /// How often the documents are repeated so that they last.
    pub(super) copies: usize,
}

impl<'a> Questions<'a> {
    pub(super) fn new(
        variant: Variant,
        frame: &ChatFrame,
        seed: u64,
        exact: bool,
        reserved: usize,
        corpus: &'a Corpus,
        squad: bool,
    ) -> Self {
        let copies = match variant {
            Variant::StarHead if squad => 5,
            Variant::StarHead | Variant::StarPaper => 1,
            Variant::RulerUpstream | Variant::Clean => usize::MAX,
        };
        let (context, query) = (QA.framed_context(frame), QA.framed_query(frame));
        Self { variant, seed, exact, reserved, corpus, context, query, copies }
    }

    /// The documents of a sample as indices into the repeated list.
    fn choose(&self, question: &Question, random: &mut PythonRandom, units: usize) -> Vec<usize> {
        let count = self.corpus.documents.len();
        let total = match self.copies {
            usize::MAX => count * units.div_ceil(count.max(1)),
            copies => count * copies,
        };
        let wanted = units.saturating_sub(question.gold.len());
        // From here on the list as a whole; `clean` never takes what answers the question twice.
        let whole = if self.copies == usize::MAX { count } else { total };
        if units >= whole && self.variant != Variant::Clean {
            return (0..units.min(total)).collect();
        }
        let mut chosen = question.gold.clone();
        if wanted > question.more.len() {
            let known: HashSet<usize> =
                question.gold.iter().chain(&question.more).copied().collect();
            let clean = self.variant == Variant::Clean;
            let others: Vec<usize> = (0..total)
                .filter(|i| !(known.contains(i) || clean && question.gold.contains(&(i % count))))
                .collect();
            chosen.extend(&question.more);
            let drawn = random.sample(others.len(), wanted - question.more.len());
            chosen.extend(drawn.into_iter().map(|i| others[i]));
        } else {
            let drawn = random.sample(question.more.len(), wanted);
            chosen.extend(drawn.into_iter().map(|i| question.more[i]));
        }
        chosen
    }
}

impl Family for Questions<'_> {
    fn step(&self) -> usize {
        10
    }

    fn most(&self) -> Option<usize> {
        self.corpus.documents.len().checked_mul(self.copies)
    }

    fn reserved(&self) -> usize {
        self.reserved
    }

    fn probe(&self) -> Option<usize> {
        self.exact.then(|| self.step())
    }

    fn draw(&self, draws: &mut Draws, index: usize, units: usize) -> Result<Draft, EvalError> {
        let question = &self.corpus.questions[index];
        let count = self.corpus.documents.len();
        let mut chosen = self.choose(question, &mut draws.python, units);
        PythonRandom::new(self.seed).shuffle(&mut chosen);
        let depths: Vec<f64> = (0..)
            .zip(&chosen)
            .filter(|(_, document)| question.gold.contains(&(*document % count)))
            .map(|(place, _): (u32, _)| f64::from(place) / chosen.len() as f64)
            .collect();
        let documents: Vec<String> = (1..)
            .zip(&chosen)
            .map(|(number, i): (usize, _)| {
                format!("Document {number}:\n{}", self.corpus.documents[i % count])
            })
            .collect();
        Ok(Draft {
            context: fill(&self.context, &[("context", &documents.join("\n\n"))]),
            query: fill(&self.query, &[("query", &question.query)]),
            outputs: question.answers.clone(),
            extra: [("depths".to_owned(), json!(depths))].into_iter().collect(),
            more: Vec::new(),
        })
    }

    fn counted_in_search(&self, draft: &Draft) -> String {
        let answer = python_list(&draft.outputs);
        let answer = if self.variant.is_star() { format!(" {answer}") } else { String::new() };
        format!("{}{}{answer}", draft.context, draft.query)
    }
}
