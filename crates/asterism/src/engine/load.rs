//! A model, its tokenizer and its prompt frame, ready to compute.

use super::compute::Compute;
use super::loading::Loading;
use super::{EngineError, EngineOptions, MemoryUse, ModelText};
use crate::model::{Checkpoint, FetchOptions, ModelConfig, ModelFiles, ModelSource, StageTimes};
use crate::plan::ModelSize;
use crate::tensor::{KvPrecision, Peak, Precision};
use crate::text::{ChatTemplate, PromptFrame, Tokenizer};
use crate::world::Fact;
use std::sync::Arc;

/// A loaded model.
pub struct Engine {
    /// Name of the model, for people.
    pub name: String,
    pub(super) compute: Box<dyn Compute>,
    warnings: Vec<String>,
    text: Arc<ModelText>,
    /// Of configuration and weights.
    pub(super) fingerprint: String,
    /// What rank 0 said of [`EngineOptions::cache_bytes`].
    agreed_cache: u64,
}

impl Engine {
    /// Loads a model with the default options, on the CPU: `nano`, the one in the binary; a folder;
    /// or `org/name[@revision]` of the Hub, downloaded where it is not in the cache.
    ///
    /// # Errors
    /// If there is no such model, and as [`Engine::load`].
    pub fn open(model: &str) -> Result<Arc<Self>, EngineError> {
        let files = model.parse::<ModelSource>()?.resolve(&FetchOptions::default())?;
        Ok(Arc::new(Self::load(files, &EngineOptions::default())?))
    }

    /// Loads a model from its files.
    ///
    /// # Errors
    /// If a file is missing, damaged or describes something unsupported: see [`EngineError`].
    pub fn load(files: ModelFiles, options: &EngineOptions) -> Result<Self, EngineError> {
        Self::load_with(files, options, &|_, _| ())
    }

    /// As [`Engine::load`], with `progress` called after every layer with how many are there and
    /// how many there are.
    ///
    /// # Errors
    /// As [`Engine::load`].
    pub fn load_with(
        files: ModelFiles,
        options: &EngineOptions,
        progress: &dyn Fn(usize, usize),
    ) -> Result<Self, EngineError> {
        let text = Arc::new(ModelText::open(&files)?);
        Self::load_read(files, text, options, progress)
    }

    /// As [`Engine::load_with`], for those who had to know the model's text before: `text` is what
    /// [`ModelText::open`] made of the same `files`, whose tokenizer is not read again.
    ///
    /// # Errors
    /// As [`Engine::load`].
    pub fn load_read(
        files: ModelFiles,
        text: Arc<ModelText>,
        options: &EngineOptions,
        progress: &dyn Fn(usize, usize),
    ) -> Result<Self, EngineError> {
        let config = text.config().clone();
        let checkpoint = Checkpoint::open(files.weights, files.weight_index.as_deref())?;
        let fingerprint = checkpoint.fingerprint(&files.config);
        let mut warnings = Vec::new();
        let loading = Loading { config, checkpoint: &Arc::new(checkpoint), options, progress };
        let compute = loading.load(&mut warnings)?;
        let mut agreed_cache = options.cache_bytes;
        if let Some(world) = &options.processes {
            world.take()?;
            let mut facts = vec![
                Fact::new(
                    "asterism",
                    env!("CARGO_PKG_VERSION"),
                    "install the same version everywhere",
                ),
                Fact::new("the model", &fingerprint, "give all ranks the same files"),
            ];
            facts.extend(compute.facts());
            agreed_cache = world.agree(&facts, agreed_cache)?;
        }
        Ok(Self { name: files.name, compute, warnings, text, fingerprint, agreed_cache })
    }

    /// Obeys rank 0, as the host that this process is of [`EngineOptions::processes`], until rank 0
    /// has nothing left to do. Everything that rank 0 asks of its own engine is done by all.
    ///
    /// # Errors
    /// [`EngineError::NotStartedTogether`] if there are no such processes; if this kind of
    /// processor cannot work with others.
    pub fn serve(&self) -> Result<(), EngineError> {
        self.compute.serve(self.agreed_cache)
    }

    /// The model's sizes and special tokens.
    #[must_use]
    pub fn config(&self) -> &ModelConfig {
        self.text.config()
    }

    /// The model's tokenizer and prompts.
    #[must_use]
    pub fn text(&self) -> &ModelText {
        &self.text
    }

    /// The precision of cached keys and values.
    #[must_use]
    pub fn kv_precision(&self) -> KvPrecision {
        self.compute.kv_precision()
    }

    /// The sizes of the model, as the cost of a plan on this engine depends on them.
    #[must_use]
    pub fn model_size(&self) -> ModelSize {
        self.config().size(self.kv_precision(), self.compute.row_precision())
    }

    /// The precision of weights.
    #[must_use]
    pub fn precision(&self) -> Precision {
        self.compute.precision()
    }

    /// Bytes of the weights of all linear layers.
    #[must_use]
    pub fn weight_bytes(&self) -> usize {
        self.compute.weight_bytes()
    }

    /// What the user should know about how the model was loaded: why the GPU is not used, say.
    #[must_use]
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// What the engine computes on, for people.
    #[must_use]
    pub fn hardware(&self) -> String {
        self.compute.hardware()
    }

    /// Measures what the hardware can do at most.
    ///
    /// # Errors
    /// If the hardware fails.
    pub fn peak(&self) -> Result<Peak, EngineError> {
        self.compute.peak()
    }

    /// Where the time of forward passes went since this was last asked; `None` without
    /// [`EngineOptions::time_stages`].
    ///
    /// # Errors
    /// If the hardware fails.
    pub fn take_stages(&self) -> Result<Option<StageTimes>, EngineError> {
        self.compute.take_stages()
    }

    /// The most bytes of a GPU's memory that were in use since this was last asked; `None` on the
    /// CPU, whose memory is that of the process.
    ///
    /// # Errors
    /// If the hardware fails.
    pub fn take_peak_memory(&self) -> Result<Option<u64>, EngineError> {
        self.compute.take_peak_memory()
    }

    /// What is spoken for of the memory for contexts and questions.
    ///
    /// # Errors
    /// If the hardware fails.
    pub fn memory(&self) -> Result<MemoryUse, EngineError> {
        self.compute.memory()
    }

    /// The model's tokenizer.
    #[must_use]
    pub fn tokenizer(&self) -> &Tokenizer {
        self.text.tokenizer()
    }

    /// The model's chat template, if it has one.
    #[must_use]
    pub fn template(&self) -> Option<&ChatTemplate> {
        self.text.template()
    }

    /// What surrounds a document and a question in this model's prompt.
    ///
    /// # Errors
    /// As [`ModelText::frame`].
    pub fn frame(&self, system: Option<&str>) -> Result<PromptFrame, EngineError> {
        self.text.frame(system)
    }

    /// Checks that `tokens` have embeddings and that everything fits the model's positions.
    pub(super) fn check(
        &self,
        tokens: &[u32],
        context: usize,
        query: usize,
        answer: usize,
    ) -> Result<(), EngineError> {
        let vocab = self.config().vocab;
        if let Some(token) = tokens.iter().copied().find(|t| *t as usize >= vocab) {
            return Err(EngineError::UnknownToken { token, vocab });
        }
        let max_positions = self.config().max_positions;
        let all = context.checked_add(query).and_then(|tokens| tokens.checked_add(answer));
        if all.is_none_or(|all| all > max_positions) {
            return Err(EngineError::TooLong { context, query, answer, max_positions });
        }
        Ok(())
    }
}
