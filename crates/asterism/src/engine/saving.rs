//! Contexts on disk: written, and found again.

use super::documents::Encoded;
use super::prepared::Saved;
use super::request::{Request, SaveRequest};
use super::{Context, Engine, EngineError, Prepared, Room};
use crate::cancel::Cancel;
use crate::saved::{Manifest, SavedBy, SavedDocuments, SavedError};
use crate::text::Document;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::time::Duration;

impl Context {
    /// Writes the context into `folder`, for [`Engine::saved`]; a context that was there is
    /// overwritten. Other requests go on meanwhile. Where hosts are processes, each writes its own
    /// keys into the folder of this name on its machine.
    ///
    /// Keys are `host-N.safetensors`, for each block and layer `block.B.layer.L.keys` and `.values`
    /// `[tokens, kv_heads, head_dim]`; all else is in `context.json`.
    ///
    /// ```
    /// # #[cfg(feature = "nano")]
    /// # fn main() -> Result<(), asterism::engine::EngineError> {
    /// use asterism::cancel::Cancel;
    /// use asterism::engine::Engine;
    ///
    /// let engine = Engine::open("nano")?;
    /// let note = "The access code for the Lisbon vault is 48213. ".repeat(20);
    /// let context = engine.documents(&[("note", note.as_str())]).star(64).encode()?;
    /// let folder = std::env::temp_dir().join(format!("asterism-{}", std::process::id()));
    /// context.save(&folder, &Cancel::new())?;
    ///
    /// let again = engine.saved(&folder, &Cancel::new())?.encode(&|_| (), &Cancel::new())?;
    /// assert_eq!(again.tokens(), context.tokens());
    /// let question = "What is the access code for the Lisbon vault?";
    /// assert!(again.ask(question)?.finish()?.text.contains("48213"));
    /// # std::fs::remove_dir_all(folder).ok();
    /// # Ok(())
    /// # }
    /// # #[cfg(not(feature = "nano"))]
    /// # fn main() {}
    /// ```
    ///
    /// # Errors
    /// [`SavedError`] if it was encoded from tokens, or a file cannot be written;
    /// [`EngineError::Cancelled`]. The folder then holds no context.
    pub fn save(&self, folder: &Path, cancel: &Cancel) -> Result<(), EngineError> {
        let frame = self.frame().ok_or(SavedError::OnlyTokens)?;
        // Hosts in other processes may run in other folders.
        let folder = std::path::absolute(folder)
            .map_err(|source| SavedError::Io { path: folder.to_owned(), source })?;
        Manifest::remove(&folder)?;
        let (plan, phase1) = (self.plan(), self.phase1());
        let (ended, hears) = channel();
        let largest = plan.hosts.iter().flatten().map(|span| span.len).max().unwrap_or_default();
        let layers = self.engine().config().layers;
        self.request(|context| {
            Request::Save(SaveRequest {
                context,
                folder: folder.clone(),
                work: (plan.tokens * layers) as u64,
                slice: (largest * plan.hosts.len()) as u64,
                cancel: cancel.clone(),
                ended,
            })
        })?;
        hears.recv().map_err(|_| EngineError::Stopped)??;
        let documents = self.encoded().map(|encoded| {
            let named = |document: &Document| (document.name().into(), document.text().into());
            let all = encoded.documents.all().iter().map(named).collect();
            SavedDocuments { own_blocks: encoded.own_blocks, all }
        });
        let (by, Room { question, answer }) = (self.engine().saved_by(), self.room());
        let cost = (phase1.time, phase1.kv_bytes);
        let tokens = (plan, self.tokens());
        Manifest::new(by, tokens, frame, documents, (question, answer), cost).write(&folder)?;
        Ok(())
    }
}

impl Engine {
    /// Finds the context that was [saved](Context::save) in `folder`. [Encoding](Prepared::encode)
    /// it reads its keys from there.
    ///
    /// # Errors
    /// [`SavedError`] if there is none, its files are damaged, or it was saved by another model or
    /// in another precision; as reading its documents; [`EngineError::Cancelled`].
    pub fn saved(
        self: &Arc<Self>,
        folder: &Path,
        cancel: &Cancel,
    ) -> Result<Prepared, EngineError> {
        let folder = std::path::absolute(folder)
            .map_err(|source| SavedError::Io { path: folder.to_owned(), source })?;
        let manifest = Manifest::read(&folder)?;
        manifest.check(&folder, &self.saved_by())?;
        let Manifest { plan, tokens, frame, documents, room, .. } = manifest;
        let (encode_seconds, kv_bytes) = (manifest.encode_seconds, manifest.kv_bytes);
        let documents = match documents {
            None => None,
            Some(SavedDocuments { own_blocks, all }) => {
                let all: Vec<(&str, &str)> =
                    all.iter().map(|(name, text)| (name.as_str(), text.as_str())).collect();
                let read = frame.documents_until(self.tokenizer(), &all, cancel);
                let (read_tokens, documents) = read.map_err(EngineError::of_cancelled)?;
                if read_tokens != tokens {
                    let what = "its documents have other tokens than its keys".into();
                    return Err(SavedError::Damaged { path: Manifest::path(&folder), what }.into());
                }
                Some(Encoded { documents: Arc::new(documents), own_blocks })
            }
        };
        let room = Room { question: room.0, answer: room.1 };
        let encode_time = Duration::try_from_secs_f64(encode_seconds).unwrap_or_default();
        let saved = Some(Saved { folder, kv_bytes, encode_time });
        let engine = Arc::clone(self);
        let prepared = Prepared { engine, tokens, plan, frame, documents, room, saved };
        prepared.check()?;
        Ok(prepared)
    }

    /// What cached keys depend on beside tokens and plan.
    fn saved_by(&self) -> SavedBy {
        SavedBy {
            model: self.fingerprint.clone(),
            weights_in: self.precision().to_string(),
            keys_in: self.kv_precision().to_string(),
        }
    }
}
