//! The texts of one column, page by page.

use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom, Take};

use super::encoding::{Numbers, text, unpack};
use super::thrift::{Value, structure};

/// Where a column of a row group lies in its file.
#[derive(Debug, Clone, Copy)]
pub(super) struct Chunk {
    pub(super) codec: i64,
    /// The first byte of its first page, and the bytes of all its pages.
    pub(super) start: u64,
    pub(super) bytes: u64,
    /// Whether values may be missing.
    pub(super) optional: bool,
}

/// The texts of a chunk in the order of the rows.
#[derive(Debug)]
pub(super) struct Texts {
    file: BufReader<Take<File>>,
    chunk: Chunk,
    dictionary: Option<Dictionary>,
    page: Page,
}

/// The texts that pages name by number.
#[derive(Debug)]
struct Dictionary {
    bytes: Vec<u8>,
    places: Vec<std::ops::Range<usize>>,
}

/// The unread part of a page of data.
#[derive(Debug, Default)]
struct Page {
    bytes: Vec<u8>,
    /// Rows left, those without a value too.
    rows: usize,
    /// 1 for each row with a value and 0 for each without; nothing where every row has one.
    present: Option<Numbers>,
    values: Values,
}

/// The values of a page.
#[derive(Debug, Default)]
enum Values {
    #[default]
    None,
    /// Texts with their lengths; where the next one begins.
    Plain(usize),
    /// Numbers of texts in the dictionary.
    Named(Numbers),
}

impl Texts {
    /// The texts at `chunk` of `file`.
    pub(super) fn new(mut file: File, chunk: Chunk) -> Result<Self, String> {
        file.seek(SeekFrom::Start(chunk.start)).map_err(|error| error.to_string())?;
        let file = BufReader::new(file.take(chunk.bytes));
        Ok(Self { file, chunk, dictionary: None, page: Page::default() })
    }

    /// The bytes of the next row's text; nothing for a row without one.
    ///
    /// # Errors
    ///
    /// What is wrong with the column, in words; nothing more can be read from it then.
    pub(super) fn next(&mut self) -> Result<Option<&[u8]>, String> {
        while self.page.rows == 0 {
            self.turn()?;
        }
        let page = &mut self.page;
        page.rows -= 1;
        if let Some(present) = &mut page.present
            && present.next(&page.bytes)? == 0
        {
            return Ok(None);
        }
        match &mut page.values {
            Values::None => Err("a page holds no values".to_owned()),
            Values::Plain(at) => {
                let place = text(&page.bytes, *at)?;
                *at = place.end;
                Ok(Some(&page.bytes[place]))
            }
            Values::Named(numbers) => {
                let number = numbers.next(&page.bytes)? as usize;
                let dictionary = self.dictionary.as_ref().ok_or("it has no dictionary")?;
                let place = dictionary.places.get(number).cloned().ok_or_else(|| {
                    let known = dictionary.places.len();
                    format!("value {number} of its dictionary is named, and there are {known}")
                })?;
                Ok(Some(&dictionary.bytes[place]))
            }
        }
    }

    /// Reads the next page.
    fn turn(&mut self) -> Result<(), String> {
        let header = structure(&mut self.file)?;
        let packed = header.size(3).ok_or("a page does not say how many bytes it has")?;
        let size = header.size(2).ok_or("a page does not say how many bytes it holds")?;
        let mut bytes = Vec::new();
        let taken = (&mut self.file).take(packed as u64).read_to_end(&mut bytes);
        if taken.map_err(|error| error.to_string())? != packed {
            return Err("it ends within a page".to_owned());
        }
        let missing = || "the header of a page is incomplete".to_owned();
        match header.int(1) {
            Some(0) => {
                let about = header.inner(5).ok_or_else(missing)?;
                let bytes = unpack(self.chunk.codec, bytes, size)?;
                let (mut at, mut present) = (0, None);
                if self.chunk.optional {
                    if about.int(3) != Some(3) {
                        return Err("it marks missing values in a way that is not read".to_owned());
                    }
                    let levels = text(&bytes, 0)?;
                    at = levels.end;
                    present = Some(Numbers::new(levels, 1)?);
                }
                self.page = page(about, about.int(2), bytes, at, present)?;
            }
            Some(3) => {
                let about = header.inner(8).ok_or_else(missing)?;
                let size_of = |number| about.size(number).filter(|&levels| levels <= packed);
                let (Some(marks), Some(0)) = (size_of(5), size_of(6)) else {
                    return Err(missing());
                };
                // What marks missing values is not packed.
                let values = bytes.split_off(marks);
                let values_size = size.checked_sub(marks).ok_or_else(missing)?;
                let codec = if about.bool(7) == Some(false) { 0 } else { self.chunk.codec };
                bytes.extend(unpack(codec, values, values_size)?);
                let optional = self.chunk.optional;
                let present = optional.then(|| Numbers::new(0..marks, 1)).transpose()?;
                self.page = page(about, about.int(4), bytes, marks, present)?;
            }
            Some(2) => {
                let about = header.inner(7).ok_or_else(missing)?;
                let count = about.size(1).ok_or_else(missing)?;
                if !matches!(about.int(2), Some(0 | 2)) {
                    return Err("its dictionary is encoded in a way that is not read".to_owned());
                }
                let bytes = unpack(self.chunk.codec, bytes, size)?;
                let (mut places, mut at) = (Vec::new(), 0);
                for _ in 0..count {
                    let place = text(&bytes, at)?;
                    at = place.end;
                    places.push(place);
                }
                self.dictionary = Some(Dictionary { bytes, places });
            }
            // Pages of an index hold no values.
            _ => {}
        }
        Ok(())
    }
}

/// A page of `bytes` whose values begin at `at`.
fn page(
    about: &Value,
    encoding: Option<i64>,
    bytes: Vec<u8>,
    at: usize,
    present: Option<Numbers>,
) -> Result<Page, String> {
    let rows = about.size(1).ok_or("a page does not say how many values it has")?;
    let values = match encoding {
        Some(0) => Values::Plain(at),
        // One byte says how many bits a number has. A page without values may lack even that.
        Some(2 | 8) => match bytes.get(at) {
            Some(&width) => Values::Named(Numbers::new(at + 1..bytes.len(), width.into())?),
            None => Values::None,
        },
        other => {
            let shown = other.map_or_else(|| "missing".to_owned(), |number| number.to_string());
            return Err(format!(
                "its encoding ({shown}) is not read; write the file with plain or dictionary encoding"
            ));
        }
    };
    Ok(Page { bytes, rows, present, values })
}
