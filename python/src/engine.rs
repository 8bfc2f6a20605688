//! Loaded models.

use crate::context::{Context, encode, reporter, shares};
use crate::error::raised;
use crate::plan::Plan;
use crate::texts::{names_and_texts, read_documents};
use crate::watch::watch;
use asterism::cancel::Cancel;
use asterism::engine::{self, EngineError, EngineOptions, Phase1, Room};
use asterism::model::{FetchOptions, ModelSource};
use asterism::plan::words::{Defaults, MethodWord};
use asterism::tensor::Precision;
use asterism::text::Special;
use numpy::PyArray1;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use std::path::PathBuf;
use std::sync::Arc;

/// A model, ready to read and answer.
///
/// Engine() is nano, the small model in the package, which finds facts in up to 131,072 tokens. A
/// path is a folder in the layout of Hugging Face, "org/name" or "org/name@revision" a model of
/// the Hub, which is downloaded unless offline=True.
///
/// device is "auto" (a GPU if there is one), "cpu", "cuda" or "cuda:1"; dtype of weights and keys
/// "bf16" or "f32"; threads those of the CPU, by default all.
#[pyclass(module = "asterism", frozen)]
pub(crate) struct Engine {
    inner: Arc<engine::Engine>,
}

/// Texts, files or tokens.
#[derive(FromPyObject)]
enum Given<'py> {
    #[pyo3(transparent)]
    Tokens(Vec<u32>),
    #[pyo3(transparent)]
    Documents(Bound<'py, PyAny>),
}

fn word(method: &str) -> PyResult<MethodWord> {
    MethodWord::parse(method).map_err(|error| PyValueError::new_err(format!("method: {error}")))
}

#[pymethods]
impl Engine {
    #[new]
    #[pyo3(signature = (model="nano", *, device="auto", threads=None, dtype="bf16", offline=false))]
    fn new(
        py: Python<'_>,
        model: &str,
        device: &str,
        threads: Option<usize>,
        dtype: &str,
        offline: bool,
    ) -> PyResult<Self> {
        let wrong = |error: String| PyValueError::new_err(error);
        let precision = match dtype {
            "bf16" => Precision::Bf16,
            "f32" => Precision::F32,
            other => return Err(wrong(format!("dtype={other:?}: expected \"bf16\" or \"f32\""))),
        };
        let device = device.parse().map_err(|error| wrong(format!("{error}")))?;
        let mut options = EngineOptions { precision, device, ..EngineOptions::default() };
        match threads {
            Some(0) => return Err(wrong("threads=0: expected at least one".to_owned())),
            Some(threads) => options.threads = threads,
            None => {}
        }
        let loaded = watch(py, &Cancel::new(), None, |_| {
            let fetch = FetchOptions { offline, ..FetchOptions::default() };
            let files = model.parse::<ModelSource>()?.resolve(&fetch)?;
            engine::Engine::load(files, &options)
        });
        let inner = loaded?.map_err(|error: EngineError| raised(py, &error))?;
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Encodes texts or files into a context.
    ///
    /// texts is a text; a path, or a string that names a file or a folder, of text, HTML, EPUB,
    /// DOCX or PDF; several of them in a list; texts by name, in a dict; or tokens, in an array of
    /// integers, which get no prompt. asterism.documents.read reads files with more choice.
    ///
    /// method is "dense", "ring", "zigzag" or "star", whose settings follow it as in
    /// "star:block=16k:anchor=4k:revisit=auto"; or a pattern that leaves keys out, such as
    /// "flexprefill:gamma=0.9", also within star's blocks: "star:sparse=xattention:stride=16".
    /// "keep=50%" behind star or dense gives up the rest of the keys, by "press=expected", say.
    /// Without a block, star takes a quarter of the context (1,024 to 32,768 tokens), without an
    /// anchor a quarter of the block.
    ///
    /// system is a message before the texts. slack leaves room in each block for so many tokens
    /// that edits may add, own_blocks begins a block at each document. question_tokens and
    /// answer_tokens are what there must be room for. progress is called with the share that is
    /// done, from 0 to 1; True shows a bar of tqdm.
    #[pyo3(signature = (texts, *, method="star", name=None, hosts=1, system=None, slack=0,
        own_blocks=false, question_tokens=256, answer_tokens=128, progress=None))]
    #[allow(clippy::too_many_arguments)] // Keywords, each of which may be left out.
    fn encode(
        &self,
        py: Python<'_>,
        texts: Bound<'_, PyAny>,
        method: &str,
        name: Option<String>,
        hosts: usize,
        system: Option<String>,
        slack: usize,
        own_blocks: bool,
        question_tokens: usize,
        answer_tokens: usize,
        progress: Option<Bound<'_, PyAny>>,
    ) -> PyResult<Context> {
        let word = word(method)?;
        let documents = match texts.extract()? {
            Given::Documents(documents) => read_documents(&documents)?,
            Given::Tokens(tokens) => {
                let room = Room { question: question_tokens, answer: answer_tokens };
                let inner = self.encode_tokens(py, tokens, word, hosts, room, progress)?;
                let name = name.unwrap_or_else(|| "tokens".to_owned());
                return Ok(Context::new(inner, name, Arc::default()));
            }
        };
        let name = name.unwrap_or_else(|| {
            documents.iter().map(|document| &*document.name).collect::<Vec<_>>().join(", ")
        });
        let inner = encode(py, progress, |cancel| {
            let texts = names_and_texts(&documents);
            let builder = self.inner.documents(&texts).hosts(hosts).slack(slack);
            let builder = builder.word(word).room(question_tokens, answer_tokens).cancel(cancel);
            let builder = if own_blocks { builder.own_blocks() } else { builder };
            match &system {
                Some(system) => builder.system(system).prepare(),
                None => builder.prepare(),
            }
        })?;
        Ok(Context::new(inner, name, documents))
    }

    /// What encoding texts, files, or a number of tokens would take, without doing it.
    #[pyo3(signature = (texts, *, method="star", hosts=1))]
    fn plan(
        &self,
        py: Python<'_>,
        texts: Bound<'_, PyAny>,
        method: &str,
        hosts: usize,
    ) -> PyResult<Plan> {
        let word = word(method)?;
        if let Ok(tokens) = texts.extract::<usize>() {
            let spec = word.plan_spec(tokens, hosts, Defaults::Any);
            let plan = asterism::plan::Plan::new(spec, tokens).map_err(EngineError::from);
            let plan = plan.map_err(|error| raised(py, &error))?;
            return Ok(Plan::new(&self.inner, plan, None));
        }
        let documents = read_documents(&texts)?;
        let prepared = py.detach(|| {
            let texts = names_and_texts(&documents);
            let prepared = self.inner.documents(&texts).hosts(hosts).word(word).prepare()?;
            Ok((prepared.plan().clone(), prepared.memory_need()))
        });
        let (plan, memory) = prepared.map_err(|error: EngineError| raised(py, &error))?;
        Ok(Plan::new(&self.inner, plan, Some(memory)))
    }

    /// The context that Context.save wrote into a folder.
    #[pyo3(signature = (folder, *, name=None, progress=None))]
    fn load(
        &self,
        py: Python<'_>,
        folder: PathBuf,
        name: Option<String>,
        progress: Option<Bound<'_, PyAny>>,
    ) -> PyResult<Context> {
        let called = folder.file_name().map(|name| name.to_string_lossy().into_owned());
        let name = name.or(called).unwrap_or_default();
        let inner = encode(py, progress, |cancel| self.inner.saved(&folder, cancel))?;
        let of_text = |document: &asterism::text::Document| {
            asterism_documents::Document::of_text(document.name().into(), document.text().into())
        };
        let documents = inner.documents().iter().map(of_text).collect();
        Ok(Context::new(inner, name, documents))
    }

    /// The tokens of a text, in which special tokens are text: uint32 [tokens].
    fn tokenize<'py>(&self, py: Python<'py>, text: &str) -> PyResult<Bound<'py, PyArray1<u32>>> {
        let tokens = self.inner.tokenizer().encode(text, Special::AsText);
        let tokens = tokens.map_err(|error| raised(py, &error.into()))?;
        Ok(PyArray1::from_vec(py, tokens))
    }

    /// The text of tokens.
    fn detokenize(&self, py: Python<'_>, tokens: Vec<u32>) -> PyResult<String> {
        let text = self.inner.tokenizer().decode(&tokens, false);
        text.map_err(|error| raised(py, &error.into()))
    }

    /// Name of the model.
    #[getter]
    fn model(&self) -> &str {
        &self.inner.name
    }

    /// What it computes on.
    #[getter]
    fn device(&self) -> String {
        self.inner.hardware()
    }

    /// Tokens of context, question and answer that the model has positions for.
    #[getter]
    fn max_tokens(&self) -> usize {
        self.inner.config().max_positions
    }

    /// Tokens that the model knows.
    #[getter]
    fn vocabulary(&self) -> usize {
        self.inner.config().vocab
    }

    /// What there is to know about how the model was loaded: why the GPU is not used, say.
    #[getter]
    fn warnings(&self) -> Vec<String> {
        self.inner.warnings().to_vec()
    }

    fn __repr__(&self) -> String {
        format!("Engine({:?}, {})", self.inner.name, self.inner.hardware())
    }
}

impl Engine {
    fn encode_tokens(
        &self,
        py: Python<'_>,
        tokens: Vec<u32>,
        word: MethodWord,
        hosts: usize,
        room: Room,
        progress: Option<Bound<'_, PyAny>>,
    ) -> PyResult<engine::Context> {
        let spec = word.plan_spec(tokens.len(), hosts, Defaults::Any);
        let (progress, cancel) = (reporter(py, progress)?, Cancel::new());
        let encoded = watch(py, &cancel, progress.as_ref(), |sender| {
            let plan = asterism::plan::Plan::new(spec, tokens.len())?;
            let all = Phase1::work(&plan, self.inner.config().layers);
            let (engine, heard) = (Arc::clone(&self.inner), shares(all, sender));
            engine::Context::encode_plan(engine, tokens, plan, room, &heard, &cancel)
        });
        encoded?.map_err(|error: EngineError| raised(py, &error))
    }
}
