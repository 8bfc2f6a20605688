//! What messages carry: buffers of the CPU, as they lie in memory, without a copy on either side.

use asterism_tensor::{Aligned, Elements, Kv, Memory, Precision};
use std::sync::Arc;

/// What a message carries. Nobody can change the buffers while they are shared.
#[derive(Debug, Clone, PartialEq)]
pub enum Payload {
    /// Small integers.
    Words(Arc<Vec<u64>>),
    /// Queries, or outputs of attention.
    Rows(Arc<Aligned<f32>>),
    /// Log-sum-exps.
    Sums(Arc<Aligned<f32>>),
    /// Keys or values.
    Kv(Arc<Kv>),
}

/// Which of them, as the tag of a message says: three bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Words,
    Rows,
    Sums,
    KvF32,
    KvBf16,
    KvInt8,
}

impl Kind {
    /// Bits of a tag that say the kind.
    pub(super) const BITS: u32 = 3;
    const ALL: [Self; 6] =
        [Self::Words, Self::Rows, Self::Sums, Self::KvF32, Self::KvBf16, Self::KvInt8];

    /// The kind that the lowest bits of a tag say, if it is one.
    pub(super) fn of_tag(tag: u16) -> Option<Self> {
        Self::ALL.get(usize::from(tag & ((1 << Self::BITS) - 1))).copied()
    }

    pub(super) fn bits(self) -> u16 {
        self as u16
    }

    fn of_kv(kv: &Kv) -> Self {
        match kv {
            Kv::Floats(Elements::F32(_)) => Self::KvF32,
            Kv::Floats(Elements::Bf16(_)) => Self::KvBf16,
            Kv::Int8(_) => Self::KvInt8,
        }
    }
}

impl Payload {
    pub(super) fn kind(&self) -> Kind {
        match self {
            Self::Words(_) => Kind::Words,
            Self::Rows(_) => Kind::Rows,
            Self::Sums(_) => Kind::Sums,
            Self::Kv(kv) => Kind::of_kv(kv),
        }
    }

    /// The bytes that are sent.
    pub(super) fn as_bytes(&self) -> &[u8] {
        match self {
            Self::Words(words) => bytemuck::must_cast_slice(&words[..]),
            Self::Rows(floats) | Self::Sums(floats) => bytemuck::must_cast_slice(&floats[..]),
            Self::Kv(kv) => kv.as_bytes(),
        }
    }
}

/// Memory that a message is received into.
#[derive(Debug)]
pub(super) enum Buffer {
    Words(Vec<u64>),
    Floats(Aligned<f32>),
    Kv(Kv),
}

impl Buffer {
    /// Cut or grown to `bytes` bytes; what is there stays. Not if they are no whole elements; heads
    /// in 8 bits may come in pieces.
    pub(super) fn resize(&mut self, bytes: usize) -> bool {
        let width = match self {
            Self::Words(words) => {
                words.resize(bytes / 8, 0);
                8
            }
            Self::Floats(floats) | Self::Kv(Kv::Floats(Elements::F32(floats))) => {
                floats.resize(bytes / 4);
                4
            }
            Self::Kv(Kv::Floats(Elements::Bf16(halves))) => {
                halves.resize(bytes / 2);
                2
            }
            Self::Kv(Kv::Int8(heads)) => {
                heads.bytes_mut().resize(bytes);
                1
            }
        };
        bytes.is_multiple_of(width)
    }

    pub(super) fn as_bytes_mut(&mut self) -> &mut [u8] {
        match self {
            Self::Words(words) => bytemuck::must_cast_slice_mut(&mut words[..]),
            Self::Floats(floats) | Self::Kv(Kv::Floats(Elements::F32(floats))) => {
                bytemuck::must_cast_slice_mut(&mut floats[..])
            }
            Self::Kv(Kv::Floats(Elements::Bf16(halves))) => {
                bytemuck::must_cast_slice_mut(&mut halves[..])
            }
            Self::Kv(Kv::Int8(heads)) => heads.bytes_mut(),
        }
    }
}

/// Bytes of buffers that are kept for messages to come. The keys of a layer on their way round a
/// ring fit, twice over, for all but the largest shards.
const KEPT: usize = 256 << 20;

/// Buffers that were received into before. A fresh one costs several times the message itself, the
/// first time that its pages are touched.
pub(super) struct Pool {
    floats: Vec<Arc<Aligned<f32>>>,
    kv: Vec<Arc<Kv>>,
    /// Bytes of either that are kept at most.
    most: usize,
}

impl Default for Pool {
    fn default() -> Self {
        Self { floats: Vec::new(), kv: Vec::new(), most: KEPT }
    }
}

impl Pool {
    /// A buffer for `bytes` bytes of `kind`, keys in heads of `head_dim`: one that is of that size
    /// and not in use any more, if there is one. `None` if they are no whole elements.
    pub(super) fn take(&mut self, kind: Kind, head_dim: usize, bytes: usize) -> Option<Buffer> {
        let mut buffer = match kind {
            Kind::Words => Buffer::Words(Vec::new()),
            Kind::Rows | Kind::Sums => {
                let unused = take_unused(&mut self.floats, |floats| floats.bytes() == bytes);
                Buffer::Floats(unused.unwrap_or_default())
            }
            Kind::KvF32 | Kind::KvBf16 | Kind::KvInt8 => {
                let none = || match kind {
                    Kind::KvF32 => Kv::floats(Precision::F32, 0),
                    Kind::KvBf16 => Kv::floats(Precision::Bf16, 0),
                    _ => Kv::int8(head_dim, 0),
                };
                let fits = |kv: &Kv| Kind::of_kv(kv) == kind && kv.bytes() == bytes;
                Buffer::Kv(take_unused(&mut self.kv, fits).unwrap_or_else(none))
            }
        };
        buffer.resize(bytes).then_some(buffer)
    }

    /// What was received, to be read by others while the pool waits for their last use.
    pub(super) fn share(&mut self, kind: Kind, buffer: Buffer) -> Payload {
        let payload = match buffer {
            Buffer::Words(words) => Payload::Words(Arc::new(words)),
            Buffer::Floats(floats) => {
                let floats = Arc::new(floats);
                self.floats.push(Arc::clone(&floats));
                if kind == Kind::Sums { Payload::Sums(floats) } else { Payload::Rows(floats) }
            }
            Buffer::Kv(kv) => {
                let kv = Arc::new(kv);
                self.kv.push(Arc::clone(&kv));
                Payload::Kv(kv)
            }
        };
        trim(&mut self.floats, self.most, |floats| floats.bytes());
        trim(&mut self.kv, self.most, |kv| kv.bytes());
        payload
    }
}

/// The youngest of `all` that `fits` and that only the pool holds.
fn take_unused<T>(all: &mut Vec<Arc<T>>, fits: impl Fn(&T) -> bool) -> Option<T> {
    let at = all.iter().rposition(|one| Arc::strong_count(one) == 1 && fits(one))?;
    Arc::into_inner(all.swap_remove(at))
}

/// Forgets the oldest until the rest has `most` bytes or fewer.
fn trim<T>(all: &mut Vec<Arc<T>>, most: usize, bytes: impl Fn(&T) -> usize) {
    let mut held: usize = all.iter().map(|one| bytes(one)).sum();
    let too_many = all.iter().take_while(|one| {
        let is_over = held > most;
        held -= bytes(one);
        is_over
    });
    let count = too_many.count();
    all.drain(..count);
}

#[cfg(test)]
mod tests {
    use super::*;
    use asterism_tensor::Cpu;

    #[test]
    fn a_buffer_is_used_again_once_nobody_reads_it() {
        let mut pool = Pool::default();
        let mut buffer = pool.take(Kind::Rows, 8, 64).unwrap();
        buffer.as_bytes_mut().fill(1);
        let first = buffer.as_bytes_mut().as_ptr();
        let read = pool.share(Kind::Rows, buffer);
        // Still read by somebody.
        let mut other = pool.take(Kind::Sums, 8, 64).unwrap();
        assert_ne!(other.as_bytes_mut().as_ptr(), first);
        drop(read);
        let mut again = pool.take(Kind::Sums, 8, 64).unwrap();
        assert_eq!(again.as_bytes_mut().as_ptr(), first);
        assert!(pool.take(Kind::Rows, 8, 6).is_none(), "one float and a half");
    }

    #[test]
    fn heads_in_8_bits_come_as_they_were_sent() {
        let mut sent = Kv::int8(2, 4);
        Cpu::new(1, None).unwrap().append(&mut sent, &[127.0, -3.0, 0.0, 254.0]);
        let sent = Payload::Kv(Arc::new(sent));
        let mut buffer = Pool::default().take(sent.kind(), 2, 3).unwrap();
        // In pieces, the first of which ends within a head.
        buffer.as_bytes_mut().copy_from_slice(&sent.as_bytes()[..3]);
        assert!(buffer.resize(12));
        buffer.as_bytes_mut()[3..].copy_from_slice(&sent.as_bytes()[3..]);
        assert_eq!(Pool::default().share(sent.kind(), buffer), sent);
    }

    #[test]
    fn no_more_than_so_much_is_kept() {
        let mut pool = Pool { most: 1000, ..Pool::default() };
        let mut read = Vec::new();
        for _ in 0..6 {
            let buffer = pool.take(Kind::KvBf16, 8, 300).unwrap();
            read.push(pool.share(Kind::KvBf16, buffer));
        }
        assert_eq!(pool.kv.iter().map(|kv| kv.bytes()).sum::<usize>(), 900);
    }

    #[test]
    fn tags_say_what_a_message_carries() {
        for kind in Kind::ALL {
            assert_eq!(Kind::of_tag(kind.bits() | 0x7ff8), Some(kind));
        }
        assert_eq!(Kind::of_tag(7), None);
        let one = Kv::Floats(Elements::from_f32(Precision::Bf16, &[1.0]));
        let kv = Payload::Kv(Arc::new(one));
        assert_eq!((kv.kind(), kv.as_bytes()), (Kind::KvBf16, &[0x80, 0x3f][..]));
    }
}
