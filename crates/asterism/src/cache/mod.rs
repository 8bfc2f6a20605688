//! What a host remembers: the keys and values of the positions it encoded.

mod kv;

pub use kv::KvStore;
