//! Tables that pyarrow wrote (`tests/golden/eval/make_tables.py`), whole and damaged.

use proptest::prelude::*;

use super::encoding::{Numbers, unpack};
use super::*;

const COLUMNS: [&str; 3] = ["input", "question", "target"];

fn golden(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/eval/tables");
    folder.join(format!("{name}.parquet"))
}

/// Every row of a file, and the error that ends it.
type Rows = Vec<Result<[String; 3], String>>;

fn rows(path: &Path) -> (Rows, Result<(), EvalError>) {
    let mut rows = Vec::new();
    let end = read_rows(path, COLUMNS, |number, row| {
        assert_eq!(number, rows.len());
        rows.push(row.map_err(|error| error.to_string()));
        if rows.len() < 1000 { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    });
    (rows, end)
}

/// Row `i` of every golden table.
fn expected(i: usize) -> [String; 3] {
    let input = format!("Mary went to room {i}. ").repeat(i % 7 + 1);
    [input, "Where is Mary? ".to_owned(), format!("room {}", i % 3)]
}

#[test]
fn every_layout_holds_the_same_rows() {
    for name in ["snappy", "zstd", "second", "plain", "required"] {
        let (found, end) = rows(&golden(name));
        assert!(end.is_ok(), "{name}: {end:?}");
        assert_eq!(found, (0..40).map(|i| Ok(expected(i))).collect::<Vec<_>>(), "{name}");
    }
}

/// A description that takes a byte for a level, and one that takes a byte for a value: neither the
/// stack nor memory may follow the file.
#[test]
fn descriptions_are_limited_in_depth_and_number() {
    let read = |bytes: Vec<u8>| structure(&mut bytes.as_slice()).unwrap_err();
    // A field that is a list of one list of one list, and the same of maps and of structures.
    for levels in [
        vec![0x19; 1_000_000],
        [vec![0x1b], [1, 0xbb].repeat(300_000)].concat(),
        vec![0x1c; 1_000_000],
    ] {
        assert!(read(levels).contains("nested too deeply"));
    }
    // A list of twenty million empty structures.
    let mut many = vec![0x19, 0xfc, 0x80, 0xda, 0xc4, 0x09];
    many.extend(vec![0; 20_000_000]);
    assert!(read(many).contains("holds too much"));
    let error = unpack(6, vec![0; 100], 1 << 30).unwrap_err();
    assert!(error.contains("is said to hold 1073741824"), "{error}");
}

#[test]
fn a_row_without_text_costs_only_itself() {
    let (found, end) = rows(&golden("odd"));
    assert!(end.is_ok());
    for (i, row) in found.into_iter().enumerate() {
        match (i, row) {
            (1, Err(error)) => {
                assert!(
                    error.ends_with("odd.parquet: column \"question\": row 1 is empty"),
                    "{error}"
                );
            }
            (2, Err(error)) => {
                assert!(error.ends_with("\"target\": row 2 is not UTF-8"), "{error}")
            }
            (_, row) => assert_eq!(row, Ok(expected(i))),
        }
    }
}

#[test]
fn what_is_not_read_is_named_with_its_column() {
    for (name, column, reason) in [
        ("numbers", "target", "it holds 64-bit integers, not text"),
        ("lists", "target", "it holds lists or structures, not text"),
        ("missing", "target", "there is no such column; the file has id, question, input"),
        ("gzip", "input", "it is packed with gzip; pack the file with snappy, zstd or none"),
        ("delta", "input", "its encoding (7) is not read"),
    ] {
        let (found, end) = rows(&golden(name));
        let error = end.unwrap_err();
        assert!(matches!(&error, EvalError::BadColumn { .. }), "{error:?}");
        let text = error.to_string();
        let start = format!("{name}.parquet: column {column:?}: {reason}");
        assert!(text.contains(&start) && found.is_empty(), "{text}");
    }
    for (bytes, reason) in [
        (&b"PAR1"[..], "no Parquet file"),
        (b"PAR1xxxxPAR2", "no Parquet file"),
        (b"PAR1\x00\x00\x00\x00PAR1", "ends within its description"),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.parquet");
        std::fs::write(&path, bytes).unwrap();
        let error = rows(&path).1.unwrap_err().to_string();
        assert!(error.contains("a.parquet: ") && error.contains(reason), "{error}");
    }
}

#[test]
fn parts_are_found_and_a_missing_one_is_named() {
    let found = parts(&golden("split")).unwrap();
    let texts: Vec<_> = found.iter().flat_map(|part| rows(part).0).collect();
    assert_eq!(texts, (0..40).map(|i| Ok(expected(i))).collect::<Vec<_>>());
    assert_eq!(parts(&golden("snappy")).unwrap(), [golden("snappy")]);
    assert!(parts(&golden("none")).unwrap().is_empty() && !exists(&golden("none")));

    let folder = tempfile::tempdir().unwrap();
    std::fs::copy(golden("split-00001-of-00002"), folder.path().join("a-00001-of-00002.parquet"))
        .unwrap();
    let table = folder.path().join("a.parquet");
    assert!(exists(&table));
    let error = parts(&table).unwrap_err().to_string();
    assert!(error.contains("a-00000-of-00002.parquet: this one of 2 parts is missing"), "{error}");
}

#[test]
fn false_sizes_are_refused() {
    let packed = snap::raw::Encoder::new().compress_vec(b"aaaaaaaaaaaa").unwrap();
    assert_eq!(unpack(1, packed.clone(), 12).unwrap(), b"aaaaaaaaaaaa");
    assert!(unpack(1, packed, 13).is_err());
    // A length of four billion before a single byte.
    assert!(unpack(1, vec![0xff, 0xff, 0xff, 0xff, 0x0f, 0], 0xffff_ffff).is_err());
    assert!(unpack(0, vec![1, 2], 3).is_err());
    assert!(unpack(6, vec![1, 2], 3).is_err());
    assert!(Numbers::new(0..1, 33).is_err());
}

/// Runs and packed groups as a writer without any cleverness would write them.
fn written(numbers: &[u32], width: u32, packed: &[bool]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (chunk, &pack) in numbers.chunks(8).zip(packed.iter().cycle()) {
        if pack && chunk.len() == 8 {
            bytes.push(3);
            let mut bits = 0_u128;
            let mut word = [0_u8; 32];
            for (i, &number) in chunk.iter().enumerate() {
                for bit in 0..width {
                    let at = i * width as usize + bit as usize;
                    word[at / 8] |= (((number >> bit) & 1) as u8) << (at % 8);
                }
                bits += 1;
            }
            assert_eq!(bits, 8);
            bytes.extend(&word[..width as usize]);
        } else {
            for &number in chunk {
                bytes.push(2);
                bytes.extend(&number.to_le_bytes()[..width.div_ceil(8) as usize]);
            }
        }
    }
    bytes
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn numbers_are_those_written(
        wide in prop::collection::vec(any::<u32>(), 1..60),
        width in 0..=32_u32,
        packed in prop::collection::vec(any::<bool>(), 1..5),
    ) {
        let mask = ((1_u64 << width) - 1) as u32;
        let numbers: Vec<u32> = wide.iter().map(|number| number & mask).collect();
        let bytes = [vec![9; 3], written(&numbers, width, &packed)].concat();
        let mut read = Numbers::new(3..bytes.len(), width).unwrap();
        for number in numbers {
            prop_assert_eq!(read.next(&bytes).unwrap(), number);
        }
        prop_assert!(read.next(&bytes).is_err());
    }

    #[test]
    fn damage_never_panics(
        name in prop::sample::select(vec!["snappy", "zstd", "second", "plain", "required", "odd"]),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>(), any::<bool>()), 1..6),
        end in any::<prop::sample::Index>(),
        cut in prop::bool::weighted(0.1),
    ) {
        let mut bytes = std::fs::read(golden(name)).unwrap();
        for (at, byte, near_end) in changes {
            // The footer says where everything lies: half of the damage is done to its start.
            let from = if near_end { bytes.len().saturating_sub(2500) } else { 0 };
            let at = from + at.index(bytes.len() - from);
            bytes[at] = byte;
        }
        if cut {
            bytes.truncate(end.index(bytes.len()));
        }
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.parquet");
        std::fs::write(&path, bytes).unwrap();
        let (_, end) = rows(&path);
        if let Err(error) = end {
            prop_assert!(error.to_string().contains("a.parquet: "), "{}", error);
        }
    }
}
