//! How a page's bytes are unpacked, and how the numbers and texts in them are written.

use std::io::Read;

use super::thrift::varint;

/// Bytes that Snappy makes of one, at most: 64 of three, rounded up.
const SNAPPY_RATIO: usize = 32;

/// Bytes that a page holds, whatever it is packed to: pages of published sets hold a megabyte or
/// two. Beyond that only [`RATIO`] times its packed bytes: books give 3 to 10.
const PAGE: usize = 32 << 20;
const RATIO: usize = 16;

/// `bytes` unpacked by Parquet's codec number `codec`: exactly `size` bytes.
///
/// # Errors
///
/// A codec that is not read, or bytes that it did not make. Memory is taken as bytes come out, so
/// that a false size reserves none.
pub(super) fn unpack(codec: i64, bytes: Vec<u8>, size: usize) -> Result<Vec<u8>, String> {
    if size > PAGE && size / RATIO > bytes.len() {
        return Err(format!("a page of {} bytes is said to hold {size}", bytes.len()));
    }
    let unpacked = match codec {
        0 => bytes,
        1 => {
            let says = snap::raw::decompress_len(&bytes).map_err(|error| error.to_string())?;
            if says != size || says / SNAPPY_RATIO > bytes.len() {
                return Err(format!("a page of {} bytes does not hold {size}", bytes.len()));
            }
            snap::raw::Decoder::new().decompress_vec(&bytes).map_err(|error| error.to_string())?
        }
        6 => {
            let mut source = bytes.as_slice();
            let frames = ruzstd::decoding::StreamingDecoder::new(&mut source);
            let mut unpacked = Vec::new();
            let one_more = (size as u64).saturating_add(1);
            let frames = frames.map_err(|error| error.to_string())?;
            frames.take(one_more).read_to_end(&mut unpacked).map_err(|error| error.to_string())?;
            unpacked
        }
        _ => {
            const NAMES: [&str; 8] =
                ["none", "snappy", "gzip", "lzo", "brotli", "lz4", "zstd", "lz4_raw"];
            let name = usize::try_from(codec).ok().and_then(|codec| NAMES.get(codec));
            let name = name.map_or_else(|| codec.to_string(), |&name| name.to_owned());
            return Err(format!(
                "it is packed with {name}; pack the file with snappy, zstd or none"
            ));
        }
    };
    if unpacked.len() == size {
        Ok(unpacked)
    } else {
        Err(format!("a page holds {} bytes instead of {size}", unpacked.len()))
    }
}

/// The range in `bytes` of the text that begins at `at` with its length.
pub(super) fn text(bytes: &[u8], at: usize) -> Result<std::ops::Range<usize>, String> {
    let cut = || "a page ends within a text".to_owned();
    let start = at.checked_add(4).ok_or_else(cut)?;
    let length = bytes.get(at..start).and_then(|length| length.try_into().ok());
    let length = u32::from_le_bytes(length.ok_or_else(cut)?) as usize;
    let end = start.checked_add(length).filter(|&end| end <= bytes.len()).ok_or_else(cut)?;
    Ok(start..end)
}

/// Small numbers in `width` bits: runs of one number, and packed groups of eight, in turn.
///
/// It borrows nothing and keeps only its place in the caller's bytes, and makes one number at a
/// time: a run of a billion takes as little memory as it does in the file.
#[derive(Debug, Clone, Default)]
pub(super) struct Numbers {
    /// The next unread byte.
    at: usize,
    end: usize,
    width: u32,
    /// Numbers left of the current run or group.
    left: u64,
    run: Run,
}

#[derive(Debug, Clone, Copy, Default)]
enum Run {
    #[default]
    None,
    /// One number, again and again.
    Same(u32),
    /// The bit at which the next number of a group begins.
    Packed(u64),
}

impl Numbers {
    /// The numbers written at `range` of the bytes that [`next`](Self::next) receives.
    pub(super) fn new(range: std::ops::Range<usize>, width: u32) -> Result<Self, String> {
        if width > 32 {
            return Err(format!("its numbers are said to have {width} bits"));
        }
        Ok(Self { at: range.start, end: range.end, width, left: 0, run: Run::None })
    }

    /// The next number.
    pub(super) fn next(&mut self, bytes: &[u8]) -> Result<u32, String> {
        let cut = || "a page ends within its numbers".to_owned();
        while self.left == 0 {
            let mut rest = bytes.get(self.at..self.end).ok_or_else(cut)?;
            let head = varint(&mut rest)?;
            self.at = self.end - rest.len();
            if head & 1 == 1 {
                let groups = head >> 1;
                let packed = groups.checked_mul(u64::from(self.width)).ok_or_else(cut)?;
                // The last group may end with the page.
                let packed = packed.min((self.end - self.at) as u64) as usize;
                (self.left, self.run) = (groups.saturating_mul(8), Run::Packed(8 * self.at as u64));
                self.at += packed;
            } else {
                let mut value = [0; 4];
                let size = self.width.div_ceil(8) as usize;
                value[..size].copy_from_slice(rest.get(..size).ok_or_else(cut)?);
                self.at += size;
                (self.left, self.run) = (head >> 1, Run::Same(u32::from_le_bytes(value)));
            }
        }
        self.left -= 1;
        match &mut self.run {
            Run::None => Err(cut()),
            Run::Same(value) => Ok(*value),
            Run::Packed(bit) => {
                let (first, shift) = ((*bit / 8) as usize, *bit % 8);
                *bit += u64::from(self.width);
                let last = bit.div_ceil(8) as usize;
                let within = bytes.get(first..last.max(first)).filter(|_| last <= self.at);
                let mut word = [0; 8];
                let within = within.ok_or_else(cut)?;
                word[..within.len()].copy_from_slice(within);
                let mask = (1_u64 << self.width) - 1;
                Ok(((u64::from_le_bytes(word) >> shift) & mask) as u32)
            }
        }
    }
}
