//! A backend and a decoder on it: what all hosts of a process share.

use crate::cache::{KvStore, Tail};
use crate::model::Decoder;
use crate::plan::Slices;
use crate::saved::{Layout, StoredBlock};
use crate::tensor::{Backend, HeadShape, KvPrecision, TensorError};

/// A model on one kind of backend.
pub(super) struct Loaded<B: Backend> {
    pub(super) backend: B,
    pub(super) decoder: Decoder<B>,
}

impl<B: Backend> Loaded<B> {
    pub(super) fn layers(&self) -> usize {
        self.decoder.config().layers
    }

    pub(super) fn shape(&self) -> HeadShape {
        self.decoder.shape()
    }

    pub(super) fn kv_precision(&self) -> KvPrecision {
        self.decoder.kv_precision()
    }

    /// How `hosts` hosts divide its weights.
    pub(super) fn slices(&self, hosts: usize) -> Slices {
        let element = self.decoder.precision().bytes();
        Slices::of(self.decoder.config().widths(), element, hosts, B::EXCHANGE_BYTES)
    }

    /// An empty store for all layers, with room for `tokens` tokens.
    pub(super) fn store(&self, tokens: usize) -> Result<KvStore<B>, TensorError> {
        KvStore::new(&self.backend, self.layers(), self.shape(), self.kv_precision(), tokens)
    }

    /// How `blocks` lie in a file.
    pub(super) fn layout(&self, blocks: Vec<StoredBlock>) -> Layout {
        let (layers, shape, precision) = (self.layers(), self.shape(), self.kv_precision());
        Layout { layers, shape, precision, blocks }
    }

    /// An empty tail in pages of `page` tokens.
    pub(super) fn tail(&self, page: usize) -> Tail<B> {
        Tail::new(self.layers(), self.shape(), self.kv_precision(), page)
    }
}
