//! JSON whose objects name everything once.
//!
//! Of a name that stands twice readers take the first value or the last: a file that holds both
//! means one thing to one program and another thing to the next.

use std::collections::HashSet;
use std::fmt;

use serde::de::{Deserialize, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

/// A value in which no object has a name twice.
#[derive(Debug)]
pub(crate) struct Distinct(pub(crate) Value);

impl<'de> Deserialize<'de> for Distinct {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(Values).map(Self)
    }
}

struct Values;

impl<'de> Visitor<'de> for Values {
    type Value = Value;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("JSON")
    }

    fn visit_unit<E: Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Value, E> {
        Ok(Number::from_f64(value).map_or(Value::Null, Value::Number))
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(Distinct(item)) = items.next_element()? {
            list.push(item);
        }
        Ok(list.into())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut map = Map::new();
        while let Some(name) = entries.next_key::<String>()? {
            if map.contains_key(&name) {
                return Err(A::Error::custom(twice(&name)));
            }
            let Distinct(value) = entries.next_value()?;
            map.insert(name, value);
        }
        Ok(map.into())
    }
}

/// The names of an object, each once; its values are not kept.
#[derive(Debug)]
pub(crate) struct DistinctNames;

impl<'de> Deserialize<'de> for DistinctNames {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_map(Names)
    }
}

struct Names;

impl<'de> Visitor<'de> for Names {
    type Value = DistinctNames;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<DistinctNames, A::Error> {
        let mut names = HashSet::new();
        while let Some((name, IgnoredAny)) = entries.next_entry::<String, _>()? {
            if let Some(name) = names.replace(name) {
                return Err(A::Error::custom(twice(&name)));
            }
        }
        Ok(DistinctNames)
    }
}

/// As [`Distinct`], for a file that others read: nothing of it is kept.
#[derive(Debug)]
pub(crate) struct DistinctThroughout;

impl<'de> Deserialize<'de> for DistinctThroughout {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(Throughout)
    }
}

struct Throughout;

impl<'de> Visitor<'de> for Throughout {
    type Value = DistinctThroughout;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("JSON")
    }

    fn visit_unit<E: Error>(self) -> Result<DistinctThroughout, E> {
        Ok(DistinctThroughout)
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<DistinctThroughout, E> {
        Ok(DistinctThroughout)
    }

    fn visit_i64<E: Error>(self, _: i64) -> Result<DistinctThroughout, E> {
        Ok(DistinctThroughout)
    }

    fn visit_u64<E: Error>(self, _: u64) -> Result<DistinctThroughout, E> {
        Ok(DistinctThroughout)
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<DistinctThroughout, E> {
        Ok(DistinctThroughout)
    }

    fn visit_str<E: Error>(self, _: &str) -> Result<DistinctThroughout, E> {
        Ok(DistinctThroughout)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<DistinctThroughout, A::Error> {
        while let Some(DistinctThroughout) = items.next_element()? {}
        Ok(DistinctThroughout)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<DistinctThroughout, A::Error> {
        let mut names = HashSet::new();
        while let Some(name) = entries.next_key::<String>()? {
            if names.contains(&name) {
                return Err(A::Error::custom(twice(&name)));
            }
            names.insert(name);
            let DistinctThroughout = entries.next_value()?;
        }
        Ok(DistinctThroughout)
    }
}

fn twice(name: &str) -> String {
    let name: String = name.chars().take(60).collect();
    format!("{name:?} is there twice")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_name_that_stands_twice_is_an_error_at_any_depth() {
        for json in [r#"{"a":1,"a":1}"#, r#"{"b":[{"c":{"a":1,"d":2,"a":3}}]}"#] {
            let error = serde_json::from_str::<Distinct>(json).unwrap_err().to_string();
            assert!(error.contains("\"a\" is there twice"), "{error}");
            let same = serde_json::from_str::<DistinctThroughout>(json).unwrap_err().to_string();
            assert_eq!(same, error);
        }
        assert!(serde_json::from_str::<DistinctNames>(r#"{"a":{"b":1,"b":2}}"#).is_ok());
        assert!(serde_json::from_str::<DistinctNames>(r#"{"a":1,"a":2}"#).is_err());
    }

    proptest! {
        #[test]
        fn other_json_reads_as_ever(text in r#"([\[\]{},:]|"[ab]"|-?[0-9.e]{1,3}|true|null){1,12}"#) {
            let plain = serde_json::from_str::<Value>(&text).ok();
            let distinct = serde_json::from_str::<Distinct>(&text).map(|Distinct(value)| value);
            let throughout = serde_json::from_str::<DistinctThroughout>(&text);
            prop_assert_eq!(throughout.is_ok(), distinct.is_ok());
            match distinct {
                Ok(value) => prop_assert_eq!(Some(value), plain),
                Err(error) => prop_assert!(plain.is_none() || error.to_string().contains("twice")),
            }
        }
    }
}
