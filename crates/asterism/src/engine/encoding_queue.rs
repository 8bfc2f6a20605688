//! Contexts that are being encoded, or wait for their turn, on the thread that leads the hosts.

use super::EngineError;
use super::admission::{Admission, Candidate};
use super::command::{AnchorNews, Command, ContextId, EncodingState, Outcome};
use super::group::Group;
use super::phase1::{Origin, Phase1, Progress};
use super::request::{EncodeEvent, EncodeRequest, Held, Request, Waiter};
use super::share;
use crate::plan::Plan;
use crate::press::RepeatPrompt;
use crate::tensor::Backend;
use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::Sender;

/// Contexts that are being encoded or wait, oldest first, and how often each encoded one is held.
pub(super) struct EncodingQueue {
    /// Where those who hold a context say that they let go of it.
    requests: Sender<Request>,
    jobs: Vec<Job>,
    holders: HashMap<ContextId, usize>,
    next_id: u64,
    admission: Admission,
}

/// One context.
struct Job {
    id: ContextId,
    plan: Arc<Plan>,
    /// `[plan.tokens]`
    tokens: Arc<[u32]>,
    /// Tokens of question and answer that there must be memory for beside it.
    room: usize,
    /// The folder that it was saved in; it is encoded if there is none.
    from: Option<PathBuf>,
    /// What asks for blocks to be repeated, if that is what their keys are scored by.
    prompt: Option<Arc<RepeatPrompt>>,
    waiters: Vec<Waiter>,
    /// `None` while it waits for its turn.
    run: Option<Run>,
}

/// What is known of a context that is being encoded.
struct Run {
    /// Work left, in tokens times layers.
    left: u64,
    bytes_sent: u64,
    anchor: AnchorNews,
}

impl Job {
    /// One that has no name and no turn yet.
    fn new(
        plan: Arc<Plan>,
        tokens: Arc<[u32]>,
        room: usize,
        from: Option<PathBuf>,
        prompt: Option<Arc<RepeatPrompt>>,
        waiters: Vec<Waiter>,
    ) -> Self {
        Self { id: ContextId(0), plan, tokens, room, from, prompt, waiters, run: None }
    }
}

impl EncodingQueue {
    pub(super) fn new(requests: Sender<Request>) -> Self {
        Self {
            requests,
            jobs: Vec::new(),
            holders: HashMap::new(),
            next_id: 0,
            admission: Admission::default(),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.jobs.is_empty()
    }

    /// Adds a request. If the same context is being encoded already, it waits for that.
    pub(super) fn add<B: Backend>(&mut self, group: &mut Group<B>, request: EncodeRequest) {
        let EncodeRequest { plan, tokens, room, from, prompt, waiter } = request;
        let same = |job: &&mut Job| *job.plan == *plan && *job.tokens == *tokens;
        if let Some(job) = self.jobs.iter_mut().find(same) {
            if let Some(run) = &job.run {
                // What was done before it came.
                let layers = group.lead.loaded.layers();
                let work = Phase1::work(&plan, layers) - run.left;
                let done =
                    Progress { host: 0, work, finished_block: None, origin: Origin::Encoded };
                let _ = waiter.events.send(EncodeEvent::Progress(done));
            }
            job.waiters.push(waiter);
            return;
        }
        self.push(Job::new(plan, tokens, room, from, prompt, vec![waiter]));
        self.begin_waiting(group);
    }

    /// Adds a job, the youngest.
    fn push(&mut self, job: Job) {
        let id = ContextId(self.next_id);
        self.next_id += 1;
        self.jobs.push(Job { id, ..job });
    }

    /// Of every context that is being encoded, the work that is left.
    pub(super) fn work_left(&self) -> Vec<u64> {
        self.jobs.iter().filter_map(|job| job.run.as_ref()).map(|run| run.left).collect()
    }

    /// One of those who hold a context lets go of it: whether it was the last.
    pub(super) fn release(&mut self, id: ContextId) -> bool {
        let Some(holders) = self.holders.get_mut(&id) else { return false };
        *holders -= 1;
        let last = *holders == 0;
        if last {
            self.holders.remove(&id);
        }
        last
    }

    /// Gives up encodings without a waiter left. Their finished blocks stay in the hosts' indices.
    pub(super) fn drop_cancelled<B: Backend>(&mut self, group: &mut Group<B>) {
        for job in &mut self.jobs {
            job.waiters.retain(|waiter| {
                let cancelled = waiter.cancel.is_raised();
                if cancelled {
                    let _ = waiter.events.send(EncodeEvent::Done(Err(EngineError::Cancelled)));
                }
                !cancelled
            });
        }
        let dropped: Vec<Job> = self.jobs.extract_if(.., |job| job.waiters.is_empty()).collect();
        for job in dropped.iter().filter(|job| job.run.is_some()) {
            group.let_go(&Command::Forget(job.id));
        }
        if !dropped.is_empty() {
            self.begin_waiting(group);
        }
    }

    /// Runs a slice of active context number `index` on all hosts.
    pub(super) fn advance<B: Backend>(&mut self, group: &mut Group<B>, index: usize) {
        let active = |(_, job): &(usize, &Job)| job.run.is_some();
        let Some((at, _)) = self.jobs.iter().enumerate().filter(active).nth(index) else { return };
        let job = &mut self.jobs[at];
        let Some(run) = &job.run else { return };
        let command = Command::Encode { id: job.id, anchor: run.anchor.clone() };
        match group.obey(&command) {
            Ok(outcomes) => self.heard(group, at, outcomes),
            Err(error) => self.failed(group, at, error),
        }
    }

    /// Begins contexts that wait, as long as there are few.
    fn begin_waiting<B: Backend>(&mut self, group: &mut Group<B>) {
        let pass = group.lead.loaded.backend.chunk_tokens();
        loop {
            let candidate =
                |job: &Job| Candidate { tokens: job.plan.tokens, is_active: job.run.is_some() };
            let all: Vec<Candidate> = self.jobs.iter().map(candidate).collect();
            let Some(at) = self.admission.next(&all, pass) else { return };
            let job = &mut self.jobs[at];
            let command = Command::Open {
                id: job.id,
                plan: Arc::clone(&job.plan),
                tokens: Arc::clone(&job.tokens),
                room: job.room,
                from: job.from.clone(),
                prompt: job.prompt.clone(),
                cancel: job.waiters.first().map_or_else(Default::default, |w| w.cancel.clone()),
            };
            match group.obey(&command) {
                Ok(outcomes) => {
                    let states = outcomes.iter().filter_map(|outcome| outcome.encoding.as_ref());
                    let needy = states.enumerate().filter(|(_, state)| state.needs_anchor);
                    job.run = Some(Run {
                        left: Phase1::work(&job.plan, group.lead.loaded.layers()),
                        bytes_sent: 0,
                        anchor: AnchorNews {
                            to: needy.map(|(rank, _)| rank).collect(),
                            ..AnchorNews::default()
                        },
                    });
                    self.heard(group, at, outcomes);
                }
                Err(error) => self.failed(group, at, error),
            }
        }
    }

    /// Passes on what the hosts did for job `at`.
    fn heard<B: Backend>(&mut self, group: &mut Group<B>, at: usize, outcomes: Vec<Outcome>) {
        let job = &mut self.jobs[at];
        let Some(run) = &mut job.run else { return };
        for progress in outcomes.iter().flat_map(|outcome| &outcome.progress) {
            run.left = run.left.saturating_sub(progress.work);
            for waiter in &job.waiters {
                let _ = waiter.events.send(EncodeEvent::Progress(*progress));
            }
        }
        run.bytes_sent += outcomes.iter().map(|outcome| outcome.sent).sum::<u64>();
        let states: Vec<EncodingState> =
            outcomes.into_iter().filter_map(|outcome| outcome.encoding).collect();
        run.anchor.sent |= states.iter().any(|state| state.anchor_sent);
        run.anchor.comes = states.iter().map(|state| state.anchor_comes).sum();
        run.anchor.tokens = states.iter().map(|state| state.anchor_tokens).sum();
        if states.iter().all(|state| state.finished) {
            match group.obey(&Command::Keep(job.id)) {
                Ok(_) => self.finished(&states, at),
                Err(error) => self.failed(group, at, error),
            }
            self.begin_waiting(group);
        }
    }

    /// Hands job `at` to those who wait for it.
    fn finished(&mut self, states: &[EncodingState], at: usize) {
        let Job { id, plan, waiters, run, .. } = self.jobs.remove(at);
        let reused = states.iter().enumerate().flat_map(|(rank, state)| {
            let blocks = share::blocks(&plan, rank);
            state.reused.iter().flat_map(move |block| blocks[*block].clone())
        });
        let mut reused: Vec<_> = reused.collect();
        reused.sort_by_key(|span| span.start);
        self.holders.insert(id, waiters.len());
        for Waiter { since, events, .. } in waiters {
            let phase1 = Phase1 {
                tokens: plan.tokens,
                time: since.elapsed(),
                bytes_sent: run.as_ref().map_or(0, |run| run.bytes_sent),
                kv_bytes: states.iter().map(|state| state.kv_bytes).sum(),
                reused: reused.clone(),
                is_loaded: states.iter().any(|state| state.is_loaded),
                sparsity: states.iter().filter_map(|state| state.sparsity).reduce(|a, b| a + b),
            };
            // If the receiver is gone, the event is dropped here, and `held` with it forgets the
            // context.
            let held = Held::new(id, self.requests.clone());
            let _ = events.send(EncodeEvent::Done(Ok((held, phase1))));
        }
    }

    /// Job `at` came to an end with `error`.
    fn failed<B: Backend>(&mut self, group: &mut Group<B>, at: usize, error: EngineError) {
        let mut job = self.jobs.remove(at);
        group.let_go(&Command::Forget(job.id));
        if matches!(error, EngineError::Cancelled) {
            // Seen in the middle of a layer: others who wait for the same context begin again from
            // the blocks that are finished.
            let (cancelled, others): (Vec<_>, Vec<_>) =
                job.waiters.into_iter().partition(|waiter| waiter.cancel.is_raised());
            job.waiters = cancelled;
            if !others.is_empty() {
                let (plan, tokens) = (Arc::clone(&job.plan), Arc::clone(&job.tokens));
                let (from, prompt) = (job.from.clone(), job.prompt.clone());
                self.push(Job::new(plan, tokens, job.room, from, prompt, others));
            }
        }
        for (waiter, error) in job.waiters.iter().zip(error.for_each_of(job.waiters.len())) {
            let _ = waiter.events.send(EncodeEvent::Done(Err(error)));
        }
        self.begin_waiting(group);
    }
}
