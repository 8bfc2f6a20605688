//! Encoded contexts.

use crate::answer::Answer;
use crate::asking::{Asked, Question, Settings};
use crate::error::raised;
use crate::plan::Plan;
use crate::texts::{names_and_texts, read_documents};
use crate::watch::watch;
use asterism::cancel::Cancel;
use asterism::engine::{self, Change, EngineError, Phase1, Prepared, Progress, Sparsity};
use asterism::tensor::Sampling;
use asterism_documents::Document;
use numpy::PyArray1;
use pyo3::prelude::*;
use pyo3::types::PyDict;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::Sender;

/// A text that was encoded once, to be asked any number of questions, from any thread.
#[pyclass(module = "asterism", frozen)]
pub(crate) struct Context {
    pub(crate) inner: engine::Context,
    /// What its user calls it.
    #[pyo3(get)]
    pub(crate) name: String,
    /// What it was encoded from; none of a context of tokens.
    documents: Arc<[Document]>,
    /// What became of each block in the edit that it comes from.
    changes: Vec<(usize, usize, &'static str)>,
}

impl Context {
    pub(crate) fn new(inner: engine::Context, name: String, documents: Arc<[Document]>) -> Self {
        Self { inner, name, documents, changes: Vec::new() }
    }

    /// What an answer keeps of it.
    fn asked(&self) -> Asked {
        Asked { context: self.inner.clone(), documents: Arc::clone(&self.documents) }
    }
}

/// Encodes what `prepare` gives, with the share that is done sent to `progress`.
pub(crate) fn encode(
    py: Python<'_>,
    progress: Option<Bound<'_, PyAny>>,
    prepare: impl FnOnce(&Cancel) -> Result<Prepared, EngineError> + Send,
) -> PyResult<engine::Context> {
    let progress = reporter(py, progress)?;
    let cancel = Cancel::new();
    let encoded = watch(py, &cancel, progress.as_ref(), |sender| {
        let prepared = prepare(&cancel)?;
        let all = Phase1::work(prepared.plan(), prepared.engine().config().layers);
        prepared.encode(&shares(all, sender), &cancel)
    });
    encoded?.map_err(|error| raised(py, &error))
}

/// Sends what part of `all` is done.
pub(crate) fn shares(all: u64, sender: &Sender<f64>) -> impl Fn(Progress) {
    let (done, sender) = (AtomicU64::new(0), sender.clone());
    move |step: Progress| {
        let done = done.fetch_add(step.work, Ordering::Relaxed) + step.work;
        // Nobody hears it who has gone.
        sender.send(done as f64 / all as f64).ok();
    }
}

/// What Python calls with the share: a function, a bar of tqdm, or one made for `True`.
pub(crate) fn reporter<'py>(
    py: Python<'py>,
    progress: Option<Bound<'py, PyAny>>,
) -> PyResult<Option<Bound<'py, PyAny>>> {
    let Some(progress) = progress else { return Ok(None) };
    let reporter = py.import("asterism.progress")?.call_method1("reporter", (progress,))?;
    Ok(Some(reporter).filter(|reporter| !reporter.is_none()))
}

#[pymethods]
impl Context {
    /// Asks a question: a string, or tokens that follow the context as they are.
    ///
    /// By default the likeliest tokens, at most max_tokens. A temperature above 0 chooses by
    /// chance, the same for the same seed, among the top_k likeliest and those that together reach
    /// top_p. The answer ends before the first of the strings stop.
    ///
    /// revisit has so many tokens of a context encoded by star computed anew for this question
    /// (2048, "5%", "auto", "none"; by default as the context's method says). sources=True finds
    /// out where the question looked, logits=True keeps the first token's logits.
    ///
    /// With stream=True the answer comes at once, to be iterated over piece by piece.
    #[pyo3(signature = (question, *, stream=false, max_tokens=128, temperature=0.0, top_k=0,
        top_p=1.0, seed=0, stop=Vec::new(), revisit=None, sources=false, logits=false))]
    #[allow(clippy::too_many_arguments)] // Keywords, each of which may be left out.
    fn ask(
        &self,
        py: Python<'_>,
        question: Question,
        stream: bool,
        max_tokens: usize,
        temperature: f32,
        top_k: usize,
        top_p: f32,
        seed: u64,
        stop: Vec<String>,
        revisit: Option<Bound<'_, PyAny>>,
        sources: bool,
        logits: bool,
    ) -> PyResult<Answer> {
        let sampling = Sampling { temperature, top_k, top_p, seed, ..Sampling::default() };
        let vocab = self.inner.engine().config().vocab;
        let settings = Settings::new(vocab, max_tokens, sampling, stop, revisit, sources, logits)?;
        let answer = Answer::ask(py, self.asked(), question, settings)?;
        if !stream {
            answer.wait(py)?;
        }
        Ok(answer)
    }

    /// Asks several questions at once; they share the model's steps. Each answer is the one that
    /// its question would get alone. The settings are those of ask.
    #[pyo3(signature = (questions, *, max_tokens=128, temperature=0.0, top_k=0, top_p=1.0, seed=0,
        stop=Vec::new(), revisit=None, sources=false, logits=false))]
    #[allow(clippy::too_many_arguments)] // Keywords, each of which may be left out.
    fn ask_many(
        &self,
        py: Python<'_>,
        questions: Vec<Question>,
        max_tokens: usize,
        temperature: f32,
        top_k: usize,
        top_p: f32,
        seed: u64,
        stop: Vec<String>,
        revisit: Option<Bound<'_, PyAny>>,
        sources: bool,
        logits: bool,
    ) -> PyResult<Vec<Answer>> {
        let sampling = Sampling { temperature, top_k, top_p, seed, ..Sampling::default() };
        let vocab = self.inner.engine().config().vocab;
        let settings = Settings::new(vocab, max_tokens, sampling, stop, revisit, sources, logits)?;
        let ask = |question| Answer::ask(py, self.asked(), question, settings.clone());
        let answers: Vec<Answer> = questions.into_iter().map(ask).collect::<PyResult<_>>()?;
        for answer in &answers {
            answer.wait(py)?;
        }
        Ok(answers)
    }

    /// The context of texts or files that this one's were changed into: blocks that stay as they
    /// were are not encoded again, and changes says which. This one stays as it is. Leave room for
    /// it with slack when you encode.
    #[pyo3(signature = (texts, *, name=None, progress=None))]
    fn edit(
        &self,
        py: Python<'_>,
        texts: Bound<'_, PyAny>,
        name: Option<String>,
        progress: Option<Bound<'_, PyAny>>,
    ) -> PyResult<Self> {
        let documents = read_documents(&texts)?;
        let inner = encode(py, progress, |cancel| {
            self.inner.prepare_edit(&names_and_texts(&documents), cancel)
        })?;
        let changed = |change| match change {
            Change::Reused => "reused",
            Change::Edited => "edited",
            Change::Moved => "moved",
            Change::Anchor => "anchor",
            Change::GivenUp => "given_up",
        };
        let changes = inner.changes_from(&self.inner).into_iter();
        let changes = changes
            .map(|(span, change)| (span.start, span.start + span.len, changed(change)))
            .collect();
        let name = name.unwrap_or_else(|| self.name.clone());
        Ok(Self { inner, name, documents, changes })
    }

    /// Writes the context into a folder, for Engine.load; one that was there is overwritten. Keys
    /// and values are files of safetensors.
    fn save(&self, py: Python<'_>, folder: PathBuf) -> PyResult<()> {
        let cancel = Cancel::new();
        let saved = watch(py, &cancel, None, |_| self.inner.save(&folder, &cancel));
        saved?.map_err(|error| raised(py, &error))
    }

    /// Its tokens, the model's prompt around the texts included: uint32 [tokens].
    #[getter]
    fn tokens<'py>(&self, py: Python<'py>) -> Bound<'py, PyArray1<u32>> {
        PyArray1::from_slice(py, self.inner.tokens())
    }

    /// Names of its documents.
    #[getter]
    fn documents(&self) -> Vec<&str> {
        self.inner.documents().iter().map(|document| document.name()).collect()
    }

    /// How it was encoded.
    #[getter]
    fn plan(&self) -> Plan {
        Plan::new(self.inner.engine(), self.inner.plan().clone(), None)
    }

    /// What became of each block in the edit that the context comes from: first position, the one
    /// after the last, and "reused", "edited", "moved", "anchor" or "given_up".
    #[getter]
    fn changes(&self) -> Vec<(usize, usize, &'static str)> {
        self.changes.clone()
    }

    /// {"encode_s", "kv_bytes", "tokens_per_s", "is_loaded", "density", "kept_mass"}; the last two
    /// are None where no keys are left out.
    #[getter]
    fn timings<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let phase1 = self.inner.phase1();
        let timings = PyDict::new(py);
        let seconds = phase1.time.as_secs_f64();
        timings.set_item("encode_s", seconds)?;
        timings.set_item("kv_bytes", phase1.kv_bytes)?;
        timings.set_item("tokens_per_s", phase1.tokens as f64 / seconds.max(1e-9))?;
        timings.set_item("is_loaded", phase1.is_loaded)?;
        timings.set_item("density", phase1.sparsity.map(Sparsity::density))?;
        timings.set_item("kept_mass", phase1.sparsity.map(Sparsity::kept_mass))?;
        Ok(timings)
    }

    fn __len__(&self) -> usize {
        self.inner.tokens().len()
    }

    fn __repr__(&self) -> String {
        let (plan, tokens) = (self.inner.plan(), self.inner.tokens().len());
        let method = plan.spec.method.name();
        format!("Context({:?}, {tokens} tokens, {method}, {} blocks)", self.name, plan.blocks())
    }
}
