//! Thrift's compact protocol, in which Parquet writes its footer and the headers of its pages.
//!
//! A structure is read whole, whatever its fields mean; who wants a field asks for it by its
//! number.

use std::io::Read;

/// Structures, lists and maps within one another, at most; Parquet has about eight.
const DEPTH: usize = 16;
/// Values of one description, at most: ten thousand groups of three columns have fewer. A structure
/// without fields takes a byte of the file and some thirty in memory.
const MOST: usize = 1 << 20;

/// A value, by its shape alone.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Value {
    Bool(bool),
    Int(i64),
    Bytes(Vec<u8>),
    List(Vec<Value>),
    /// Fields by number.
    Struct(Vec<(i16, Value)>),
    /// A number with a fraction, a map: nothing that is asked for.
    Other,
}

impl Value {
    fn field(&self, number: i16) -> Option<&Self> {
        let Self::Struct(fields) = self else { return None };
        fields.iter().find(|(field, _)| *field == number).map(|(_, value)| value)
    }

    /// The whole number in a field.
    pub(super) fn int(&self, number: i16) -> Option<i64> {
        match self.field(number) {
            Some(Self::Int(value)) => Some(*value),
            _ => None,
        }
    }

    /// The number of bytes or of values in a field; nothing for a negative one.
    pub(super) fn size(&self, number: i16) -> Option<usize> {
        self.int(number).and_then(|value| usize::try_from(value).ok())
    }

    /// The yes or no in a field.
    pub(super) fn bool(&self, number: i16) -> Option<bool> {
        match self.field(number) {
            Some(Self::Bool(value)) => Some(*value),
            _ => None,
        }
    }

    /// The items of the list in a field.
    pub(super) fn list(&self, number: i16) -> Option<&[Self]> {
        match self.field(number) {
            Some(Self::List(items)) => Some(items),
            _ => None,
        }
    }

    /// The structure in a field.
    pub(super) fn inner(&self, number: i16) -> Option<&Self> {
        self.field(number).filter(|value| matches!(value, Self::Struct(_)))
    }

    /// The text in a field.
    pub(super) fn text(&self, number: i16) -> Option<&str> {
        self.field(number).and_then(Self::as_text)
    }

    /// This value as text.
    pub(super) fn as_text(&self) -> Option<&str> {
        match self {
            Self::Bytes(bytes) => std::str::from_utf8(bytes).ok(),
            _ => None,
        }
    }
}

/// Reads one structure, and no byte beyond its end.
///
/// # Errors
///
/// What is wrong with the bytes, in words. Never takes more memory than a small multiple of them.
pub(super) fn structure(bytes: &mut dyn Read) -> Result<Value, String> {
    fields(bytes, &mut Room { depth: DEPTH, values: MOST })
}

/// What may still be read: levels within the present one, and values anywhere.
struct Room {
    depth: usize,
    values: usize,
}

impl Room {
    /// Reads something within something.
    fn within<T>(
        &mut self,
        read: impl FnOnce(&mut Self) -> Result<T, String>,
    ) -> Result<T, String> {
        self.depth = self.depth.checked_sub(1).ok_or("its structures are nested too deeply")?;
        let inner = read(self)?;
        self.depth += 1;
        Ok(inner)
    }

    /// Takes the place of one value: in memory it is larger than its one byte in the file.
    fn take(&mut self) -> Result<(), String> {
        self.values = self.values.checked_sub(1).ok_or("its description holds too much")?;
        Ok(())
    }
}

fn fields(bytes: &mut dyn Read, room: &mut Room) -> Result<Value, String> {
    room.within(|room| fields_within(bytes, room))
}

fn fields_within(bytes: &mut dyn Read, room: &mut Room) -> Result<Value, String> {
    let (mut fields, mut number) = (Vec::new(), 0_i16);
    loop {
        let head = byte(bytes)?;
        let kind = head & 0x0f;
        if kind == 0 {
            return Ok(Value::Struct(fields));
        }
        // The distance to the last field's number, or the number itself where it is far.
        number = match head >> 4 {
            0 => zigzag(varint(bytes)?) as i16,
            ahead => number.wrapping_add(i16::from(ahead)),
        };
        // A field holds its yes or no in its own kind.
        let value = match kind {
            1 | 2 => Value::Bool(kind == 1),
            _ => value(bytes, kind, room)?,
        };
        room.take()?;
        fields.push((number, value));
    }
}

fn value(bytes: &mut dyn Read, kind: u8, room: &mut Room) -> Result<Value, String> {
    match kind {
        1 | 2 => Ok(Value::Bool(byte(bytes)? == 1)),
        3 => Ok(Value::Int(i64::from(byte(bytes)? as i8))),
        4..=6 => Ok(Value::Int(zigzag(varint(bytes)?))),
        7 => read(bytes, 8).map(|_| Value::Other),
        8 => {
            let length = varint(bytes)?;
            read(bytes, length).map(Value::Bytes)
        }
        9 | 10 => {
            let head = byte(bytes)?;
            let count = if head >> 4 == 15 { varint(bytes)? } else { u64::from(head >> 4) };
            // Every item takes a byte at least, so that a false count ends with the bytes.
            room.within(|room| {
                let item = |_| {
                    room.take()?;
                    value(bytes, head & 0x0f, room)
                };
                (0..count).map(item).collect::<Result<_, _>>().map(Value::List)
            })
        }
        11 => {
            let count = varint(bytes)?;
            let kinds = if count == 0 { 0 } else { byte(bytes)? };
            room.within(|room| {
                for _ in 0..count {
                    value(bytes, kinds >> 4, room)?;
                    value(bytes, kinds & 0x0f, room)?;
                }
                Ok(Value::Other)
            })
        }
        12 => fields(bytes, room),
        _ => Err(format!("it holds a field of the unknown kind {kind}")),
    }
}

fn byte(bytes: &mut dyn Read) -> Result<u8, String> {
    let mut one = [0];
    bytes.read_exact(&mut one).map_err(|_| "it ends within its description")?;
    Ok(one[0])
}

/// `length` bytes. They are taken as they come: a false length reserves nothing.
fn read(bytes: &mut dyn Read, length: u64) -> Result<Vec<u8>, String> {
    let mut taken = Vec::new();
    let read = bytes.take(length).read_to_end(&mut taken).map_err(|error| error.to_string())?;
    if read as u64 == length { Ok(taken) } else { Err("it ends within its description".into()) }
}

/// A whole number of 7 bits a byte, the lowest first.
pub(super) fn varint(bytes: &mut dyn Read) -> Result<u64, String> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let next = byte(bytes)?;
        value |= u64::from(next & 0x7f) << shift;
        if next & 0x80 == 0 {
            return Ok(value);
        }
    }
    Err("it holds a number of more than 64 bits".into())
}

/// 0, -1, 1, -2, 2, ... for 0, 1, 2, 3, 4, ...
fn zigzag(value: u64) -> i64 {
    (value >> 1) as i64 ^ -((value & 1) as i64)
}
