//! Keys and values, where they are kept.
//!
//! * [`KvStore`]: keys of some tokens in all layers, while they are being computed
//! * [`EncodedBlock`]: a store that will not change any more, shared by all questions of its
//!   contexts
//! * [`Tail`]: the keys of one question and its answer, in pages
//! * [`Ledger`]: how much memory is spoken for; asked before any work
//! * [`Index`]: encoded blocks found again by [`BlockKey`], the longest unused given up first

mod block;
mod index;
mod kv;
mod ledger;
mod tail;

pub use block::{BlockKey, EncodedBlock};
pub use index::Index;
pub use kv::{KvStore, LayerBytes};
pub use ledger::{Ledger, Reservation};
pub use tail::{PAGE, Tail};
