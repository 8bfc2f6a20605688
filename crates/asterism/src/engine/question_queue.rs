//! Questions that wait, run or are being answered, on the thread that leads the hosts.

use super::EngineError;
use super::choice::{Chooser, Chosen, largest};
use super::command::{Command, QuestionId};
use super::generate::Revisited;
use super::group::Group;
use super::loaded::Loaded;
use super::question::{Holds, Question, sequence};
use super::request::{AnswerEvent, AskRequest, Ended};
use super::schedule::UnderWay;
use super::sources::Source;
use super::step::{Sequence, Steps};
use crate::tensor::Backend;
use std::collections::VecDeque;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Instant;

/// Sequences that decode together at most.
const BATCH: usize = 32;

/// Questions, in the order they came, and answers under way.
pub(super) struct QuestionQueue<B: Backend> {
    steps: Steps<B>,
    /// Questions whose passes are not done, the first of them perhaps under way.
    questions: VecDeque<Question<B>>,
    /// Answers under way.
    answers: Vec<Answer<B>>,
    next_id: u64,
    /// Questions for which hosts need not hold anything any more.
    released: Receiver<QuestionId>,
    release: Sender<QuestionId>,
}

/// An answer that is being generated.
struct Answer<B: Backend> {
    request: AskRequest,
    sequence: Sequence<B>,
    chooser: Chooser<B>,
    /// Tokens so far.
    tokens: usize,
    /// The last of them.
    last: u32,
    first_at: Instant,
    bytes_sent: u64,
    revisited: Revisited,
    _held: Option<Holds>,
}

impl<B: Backend> QuestionQueue<B> {
    pub(super) fn new(loaded: &Loaded<B>) -> Self {
        let (release, released) = channel();
        Self {
            steps: Steps::new(loaded),
            questions: VecDeque::new(),
            answers: Vec::new(),
            next_id: 0,
            released,
            release,
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.questions.is_empty() && self.answers.is_empty()
    }

    /// Sequences that decode.
    pub(super) fn decoding(&self) -> usize {
        self.answers.len()
    }

    /// The first question: whether there is one, and whether a pass over it is under way.
    pub(super) fn first(&self) -> Option<UnderWay> {
        // A question whose answer would find no place waits.
        let question = self.questions.front().filter(|_| self.answers.len() < BATCH)?;
        Some(UnderWay(question.is_under_way()))
    }

    /// Adds a question, once there is memory for it and its answer.
    pub(super) fn add(&mut self, group: &mut Group<B>, request: AskRequest) {
        let question = QuestionId(self.next_id);
        self.next_id += 1;
        match sequence(group, question, &request) {
            Ok(sequence) => {
                self.questions.push_back(Question::new(request, sequence, &self.release));
            }
            Err(error) => end(&request, Err(error)),
        }
    }

    /// Has the hosts let go of what they hold for questions that have ended.
    pub(super) fn release(&mut self, group: &mut Group<B>) {
        for question in self.released.try_iter() {
            group.let_go(&Command::Release(question));
        }
    }

    /// Ends what was cancelled and what has been heard enough of.
    pub(super) fn drop_cancelled(&mut self) {
        self.questions.retain(|question| {
            let goes_on = !question.request.cancel.is_raised();
            if !goes_on {
                end(&question.request, Err(EngineError::Cancelled));
            }
            goes_on
        });
        let before = self.answers.len();
        self.answers.retain(|answer| {
            let request = &answer.request;
            let (cancelled, enough) = (request.cancel.is_raised(), request.enough.is_raised());
            if cancelled {
                end(request, Err(EngineError::Cancelled));
            } else if enough {
                end(request, Ok(answer.ended(false)));
            }
            !cancelled && !enough
        });
        if self.answers.len() < before {
            self.forget_step();
        }
    }

    /// Runs a slice of the first question's next pass.
    pub(super) fn advance(&mut self, group: &mut Group<B>) {
        let Some(mut question) = self.questions.pop_front() else { return };
        match question.slice(group, &mut self.steps) {
            Ok(false) => self.questions.push_front(question),
            Ok(true) => self.answer(group, question),
            Err(error) => end(&question.request, Err(error)),
        }
    }

    /// A question has run: its answer begins.
    fn answer(&mut self, group: &mut Group<B>, question: Question<B>) {
        let Question { request, sequence, bytes_sent, revisited, sources, held: _held, .. } =
            question;
        let (first_at, tokens, last) = (Instant::now(), 0, 0);
        let chooser = match self.begin_answer(group, &request, &sequence, sources) {
            Ok(chooser) => chooser,
            Err(error) => return end(&request, Err(error)),
        };
        let mut answer = Answer {
            request,
            sequence,
            chooser,
            tokens,
            last,
            first_at,
            bytes_sent,
            revisited,
            _held,
        };
        if answer.request.settings.max_tokens == 0 {
            return end(&answer.request, Ok(answer.ended(false)));
        }
        let among = answer.request.spelled;
        let token = self.steps.first_token(&group.lead, among, &mut answer.chooser);
        answer.first_at = Instant::now();
        if answer.takes(token, &group.lead.loaded) {
            self.answers.push(answer);
        }
    }

    /// Tells of the logits that follow the question and of its sources, if they were asked for, and
    /// makes what chooses tokens.
    fn begin_answer(
        &self,
        group: &Group<B>,
        request: &AskRequest,
        sequence: &Sequence<B>,
        sources: Vec<Source>,
    ) -> Result<Chooser<B>, EngineError> {
        let Loaded { backend, decoder } = &*group.lead.loaded;
        let vocab = decoder.config().vocab;
        let mut top_logits = Vec::new();
        if request.settings.top_logits > 0 {
            // [vocab]
            let mut logits = vec![0.0; vocab];
            self.steps.first_logits(&group.lead, sequence.position(), &mut logits)?;
            top_logits = largest(&logits, request.settings.top_logits);
        }
        let _ = request.events.send(AnswerEvent::Question { top_logits, sources });
        let prompt = request.context_tokens.iter().chain(&request.query).copied();
        Ok(Chooser::new(backend, &request.settings, vocab, prompt)?)
    }

    /// A decode step: one more token of every answer.
    pub(super) fn decode(&mut self, group: &mut Group<B>) {
        let mut sequences: Vec<_> =
            self.answers.iter_mut().map(|answer| &mut answer.sequence).collect();
        let replayed = self.steps.advance(&group.lead, &mut sequences);
        if replayed.is_none() {
            self.make_rooms(group);
        }
        if self.answers.is_empty() {
            return;
        }
        match self.step(group, replayed) {
            Ok(tokens) => {
                let mut tokens = tokens.into_iter();
                let (loaded, before) = (&group.lead.loaded, self.answers.len());
                self.answers
                    .retain_mut(|answer| answer.takes(tokens.next().unwrap_or(Ok(None)), loaded));
                if self.answers.len() < before {
                    self.forget_step();
                }
            }
            Err(error) => {
                let errors = error.for_each_of(self.answers.len());
                for (answer, error) in self.answers.drain(..).zip(errors) {
                    end(&answer.request, Err(error));
                }
            }
        }
    }

    /// Makes room for another token of every answer. One without room ends; the others go on.
    fn make_rooms(&mut self, group: &Group<B>) {
        self.answers.retain_mut(|answer| match answer.sequence.make_room(&group.lead) {
            Ok(()) => true,
            Err(error) => {
                end(&answer.request, Err(error));
                false
            }
        });
    }

    /// Gives up what was recorded of the answers that were here before some of them ended.
    fn forget_step(&mut self) {
        self.answers.iter_mut().for_each(|answer| answer.sequence.forget_step());
    }

    /// Runs the last token of every answer, by replaying a step so many tokens later or not, and
    /// chooses the next; `None` where a logit is not finite.
    fn step(
        &mut self,
        group: &mut Group<B>,
        replayed: Option<u32>,
    ) -> Result<Vec<Result<Option<Chosen>, EngineError>>, EngineError> {
        let tokens: Vec<u32> = self.answers.iter().map(|answer| answer.last).collect();
        let mut sequences: Vec<_> =
            self.answers.iter_mut().map(|answer| &mut answer.sequence).collect();
        let sent = self.steps.decode(group, &mut sequences, &tokens, replayed)?;
        let share = sent / self.answers.len() as u64;
        self.answers.iter_mut().for_each(|answer| answer.bytes_sent += share);
        let choosers =
            self.answers.iter_mut().map(|answer| (answer.request.spelled, &mut answer.chooser));
        self.steps.next_tokens(&group.lead, choosers)
    }
}

impl<B: Backend> Answer<B> {
    /// Passes the next token on, if its logits were finite; whether another is to come.
    fn takes(&mut self, chosen: Result<Option<Chosen>, EngineError>, loaded: &Loaded<B>) -> bool {
        let request = &self.request;
        let position = self.sequence.position().saturating_sub(1);
        let chosen = chosen.and_then(|token| token.ok_or(EngineError::NotFinite { position }));
        let Chosen { token, logprobs } = match chosen {
            Ok(chosen) => chosen,
            Err(error) => {
                end(request, Err(error));
                return false;
            }
        };
        self.tokens += 1;
        self.last = token;
        let eos = loaded.decoder.config().eos.contains(&token) && !request.settings.ignore_eos;
        // Sending fails when the caller is gone, and the answer ends.
        let heard = request.events.send(AnswerEvent::Token(token, logprobs)).is_ok();
        if eos || !heard || self.tokens == request.settings.max_tokens {
            end(request, Ok(self.ended(eos)));
            return false;
        }
        true
    }

    fn ended(&self, eos: bool) -> Ended {
        Ended {
            eos,
            query_time: self.first_at.duration_since(self.request.since),
            decode_time: self.first_at.elapsed(),
            bytes_sent: self.bytes_sent,
            revisited: self.revisited,
        }
    }
}

/// The last event of a request. Who does not listen has gone.
fn end(request: &AskRequest, result: Result<Ended, EngineError>) {
    let _ = request.events.send(AnswerEvent::Done(result));
}
