//! The life of a group of hosts: takes requests, does what the [`Schedule`] says, and tells those
//! who asked. It runs on a thread of its own, which leads the group.

use super::command::{Command, ContextId};
use super::encoding_queue::EncodingQueue;
use super::group::Group;
use super::question_queue::QuestionQueue;
use super::request::Request;
use super::saving_queue::SavingQueue;
use super::schedule::{Schedule, Slice, Waiting};
use crate::tensor::Backend;
use std::sync::mpsc::{Receiver, Sender, TryRecvError};

/// A group of hosts at work.
pub(super) struct Service<B: Backend> {
    group: Group<B>,
    requests: Receiver<Request>,
    encodings: EncodingQueue,
    savings: SavingQueue,
    questions: QuestionQueue<B>,
    schedule: Schedule,
}

impl<B: Backend> Service<B> {
    /// Serves `requests`, which `sender` leads to.
    pub(super) fn new(
        group: Group<B>,
        requests: Receiver<Request>,
        sender: Sender<Request>,
    ) -> Self {
        let questions = QuestionQueue::new(&group.lead.loaded);
        Self {
            group,
            requests,
            encodings: EncodingQueue::new(sender),
            savings: SavingQueue::default(),
            questions,
            schedule: Schedule::default(),
        }
    }

    /// Serves until the engine ends.
    pub(super) fn run(mut self) {
        while self.take_requests() {
            self.encodings.drop_cancelled(&mut self.group);
            self.savings.drop_cancelled(&mut self.group);
            self.questions.drop_cancelled();
            // Contexts that are written have slices as those have that are encoded.
            let mut contexts = self.encodings.work_left();
            let encoding = contexts.len();
            contexts.extend(self.savings.work_left());
            let waiting = Waiting {
                decoding: self.questions.decoding(),
                question: self.questions.first(),
                contexts: &contexts,
            };
            match self.schedule.next(&waiting) {
                Some(Slice::Decode) => self.questions.decode(&mut self.group),
                Some(Slice::Question) => self.questions.advance(&mut self.group),
                Some(Slice::Context(index)) if index < encoding => {
                    self.encodings.advance(&mut self.group, index);
                }
                Some(Slice::Context(index)) => {
                    self.savings.advance(&mut self.group, index - encoding);
                }
                None => {}
            }
            self.questions.release(&mut self.group);
        }
    }

    /// Takes what has been asked meanwhile; waits if there is nothing else to do. False at the end.
    fn take_requests(&mut self) -> bool {
        loop {
            let is_idle =
                self.encodings.is_empty() && self.savings.is_empty() && self.questions.is_empty();
            let request = if is_idle {
                self.requests.recv().map_err(|_| TryRecvError::Disconnected)
            } else {
                self.requests.try_recv()
            };
            match request {
                Ok(Request::Encode(request)) => self.encodings.add(&mut self.group, request),
                Ok(Request::Save(request)) => self.savings.add(request),
                Ok(Request::Ask(request)) => self.questions.add(&mut self.group, request),
                Ok(Request::Forget(id)) => self.forget(id),
                Ok(Request::Measure(answer)) => {
                    // Who does not wait any more need not hear it.
                    let _ = answer.send(self.group.link());
                }
                Ok(Request::Stop) | Err(TryRecvError::Disconnected) => return false,
                Err(TryRecvError::Empty) => return true,
            }
        }
    }

    /// One of those who hold a context lets go of it.
    fn forget(&mut self, id: ContextId) {
        if self.encodings.release(id) {
            self.group.let_go(&Command::Forget(id));
        }
    }
}
