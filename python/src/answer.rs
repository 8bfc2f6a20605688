//! Answers: whole, or as they come.

use crate::asking::{Asked, Question, Settings, begin};
use crate::error::raised;
use crate::source::Source;
use crate::watch::watch;
use asterism::cancel::Cancel;
use asterism::engine::{self, AnswerText};
use numpy::PyArray1;
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::types::PyDict;
use std::mem::replace;
use std::sync::{Mutex, PoisonError};

/// An answer. `str(answer)` is its text, waited for if need be; iterating yields the pieces of its
/// text as they come.
#[pyclass(module = "asterism", frozen)]
pub(crate) struct Answer {
    asked: Asked,
    question: Question,
    settings: Settings,
    cancel: Cancel,
    state: Mutex<State>,
}

enum State {
    Running(Box<engine::Answer>),
    /// Another thread reads it.
    Busy,
    /// `unread` is text that no iterator has brought.
    Done {
        answer: Box<AnswerText>,
        unread: String,
    },
    Failed,
}

impl Answer {
    /// Asks `question`; its answer is there when it is waited for.
    pub(crate) fn ask(
        py: Python<'_>,
        asked: Asked,
        question: Question,
        settings: Settings,
    ) -> PyResult<Self> {
        let cancel = Cancel::new();
        let running = begin(py, &asked.context, &question, &settings, &cancel)?;
        let state = Mutex::new(State::Running(Box::new(running)));
        Ok(Self { asked, question, settings, cancel, state })
    }

    fn put(&self, state: State) -> State {
        replace(&mut *self.state.lock().unwrap_or_else(PoisonError::into_inner), state)
    }

    /// Waits for the end.
    pub(crate) fn wait(&self, py: Python<'_>) -> PyResult<()> {
        match self.put(State::Busy) {
            State::Running(running) => {
                let so_far = running.text().len();
                let ended = watch(py, &self.cancel, None, move |_| running.finish());
                self.end(py, ended, so_far)
            }
            other => {
                let is_done = self.is_readable(&other);
                self.put(other);
                is_done
            }
        }
    }

    /// Notes how it ended, of whose text `so_far` bytes were read.
    fn end(
        &self,
        py: Python<'_>,
        ended: PyResult<Result<AnswerText, engine::EngineError>>,
        so_far: usize,
    ) -> PyResult<()> {
        self.put(State::Failed);
        let answer = ended?.map_err(|error| raised(py, &error))?;
        let unread = answer.text[so_far..].to_owned();
        self.put(State::Done { answer: Box::new(answer), unread });
        Ok(())
    }

    fn is_readable(&self, state: &State) -> PyResult<()> {
        match state {
            State::Running(_) | State::Done { .. } => Ok(()),
            State::Busy => Err(PyRuntimeError::new_err("another thread reads this answer")),
            State::Failed => Err(PyRuntimeError::new_err("the answer has failed: ask again")),
        }
    }

    /// Something of the whole answer.
    fn read<T>(&self, py: Python<'_>, read: impl FnOnce(&AnswerText) -> T) -> PyResult<T> {
        self.wait(py)?;
        match &*self.state.lock().unwrap_or_else(PoisonError::into_inner) {
            State::Done { answer, .. } => Ok(read(answer)),
            other => Err(self
                .is_readable(other)
                .err()
                .unwrap_or_else(|| PyRuntimeError::new_err("another thread reads this answer"))),
        }
    }
}

#[pymethods]
impl Answer {
    fn __iter__(this: PyRef<'_, Self>) -> PyRef<'_, Self> {
        this
    }

    fn __next__(&self, py: Python<'_>) -> PyResult<Option<String>> {
        match self.put(State::Busy) {
            State::Running(mut running) => {
                let so_far = running.text().len();
                let step = watch(py, &self.cancel, None, move |_| (running.next(), running));
                match step {
                    Ok((Some(Ok(piece)), running)) => {
                        self.put(State::Running(running));
                        Ok(Some(piece))
                    }
                    Ok((Some(Err(error)), _)) => {
                        self.put(State::Failed);
                        Err(raised(py, &error))
                    }
                    Ok((None, running)) => {
                        let ended = watch(py, &self.cancel, None, move |_| running.finish());
                        self.end(py, ended, so_far)?;
                        Ok(None)
                    }
                    Err(interrupt) => {
                        self.put(State::Failed);
                        Err(interrupt)
                    }
                }
            }
            State::Done { answer, unread } => {
                self.put(State::Done { answer, unread: String::new() });
                Ok(Some(unread).filter(|text| !text.is_empty()))
            }
            other => {
                let readable = self.is_readable(&other);
                self.put(other);
                readable.map(|()| None)
            }
        }
    }

    /// Ends the answer where it is.
    fn stop(&self) {
        if let State::Running(running) =
            &mut *self.state.lock().unwrap_or_else(PoisonError::into_inner)
        {
            running.stop();
        }
    }

    fn __str__(&self, py: Python<'_>) -> PyResult<String> {
        self.text(py)
    }

    fn __repr__(&self) -> String {
        match &*self.state.lock().unwrap_or_else(PoisonError::into_inner) {
            State::Done { answer, .. } => format!("Answer({:?})", answer.text),
            State::Running(running) => format!("Answer({:?}…)", running.text()),
            State::Busy => "Answer(…)".to_owned(),
            State::Failed => "Answer(failed)".to_owned(),
        }
    }

    /// The whole text.
    #[getter]
    fn text(&self, py: Python<'_>) -> PyResult<String> {
        self.read(py, |answer| answer.text.clone())
    }

    /// Its tokens, the end-of-sequence token included: uint32 [tokens].
    #[getter]
    fn tokens<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyArray1<u32>>> {
        let tokens = self.read(py, |answer| answer.generated.tokens.clone())?;
        Ok(PyArray1::from_vec(py, tokens))
    }

    /// Logits of the first token: float32 [vocabulary]. None unless asked with logits=True.
    #[getter]
    fn logits<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyArray1<f32>>>> {
        let top = self.read(py, |answer| answer.generated.top_logits.clone())?;
        let mut logits = vec![f32::NEG_INFINITY; top.len()];
        for (token, logit) in &top {
            logits[*token as usize] = *logit;
        }
        Ok((!top.is_empty()).then(|| PyArray1::from_vec(py, logits)))
    }

    /// Why it ended: "eos", "stop" or "length".
    #[getter]
    fn finish(&self, py: Python<'_>) -> PyResult<&'static str> {
        self.read(py, |answer| answer.generated.finish.name())
    }

    /// Seconds and tokens: {"question_tokens", "question_s", "decode_s", "tokens_per_s",
    /// "revisited_tokens", "revisit_s"}.
    #[getter]
    fn timings<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let generated = self.read(py, |answer| answer.generated.clone())?;
        let timings = PyDict::new(py);
        timings.set_item("question_tokens", generated.query_tokens)?;
        timings.set_item("question_s", generated.query_time.as_secs_f64())?;
        timings.set_item("decode_s", generated.decode_time.as_secs_f64())?;
        timings.set_item("tokens_per_s", generated.tokens_per_second())?;
        timings.set_item("revisited_tokens", generated.revisited.tokens)?;
        timings.set_item("revisit_s", generated.revisited.time.as_secs_f64())?;
        Ok(timings)
    }

    /// Where in the context the question looked, most of all first. Unless it was asked with
    /// sources=True, the question runs once more for it.
    #[getter]
    fn sources(&self, py: Python<'_>) -> PyResult<Vec<Source>> {
        let mut sources = self.read(py, |answer| answer.sources().to_vec())?;
        if sources.is_empty() {
            let mut settings = self.settings.clone();
            (settings.generation.sources, settings.generation.max_tokens) = (true, 1);
            let cancel = Cancel::new();
            let running = begin(py, &self.asked.context, &self.question, &settings, &cancel)?;
            let answer = watch(py, &cancel, None, move |_| running.finish())?;
            sources = answer.map_err(|error| raised(py, &error))?.sources().to_vec();
        }
        let all = sources.iter().map(|source| Source::of(&self.asked, source));
        all.collect::<Result<_, _>>().map_err(|error| raised(py, &error))
    }
}
