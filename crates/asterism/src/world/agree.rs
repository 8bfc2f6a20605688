//! Whether all ranks have loaded the same: if not, they would compute something that nobody asked
//! for, or wait for messages that never come.

use super::{Frame, Kind, World, WorldError};
use serde::{Deserialize, Serialize};

/// One thing that must be the same on all ranks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Fact {
    pub(crate) field: String,
    pub(crate) value: String,
    /// What to do where it differs.
    pub(crate) remedy: String,
}

impl Fact {
    pub(crate) fn new(field: &str, value: impl ToString, remedy: &str) -> Self {
        let (field, remedy) = (field.to_owned(), remedy.to_owned());
        Self { field, value: value.to_string(), remedy }
    }
}

/// All of them, in the order in which they are compared.
pub(crate) type Facts = Vec<Fact>;

/// What rank 0 decides for all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Agreed {
    cache_bytes: u64,
}

impl World {
    /// Compares what this rank has loaded with what the others have; waits for all of them. Rank 0
    /// decides how many bytes of blocks that no context holds are kept, which all learn.
    ///
    /// # Errors
    /// On rank 0 [`WorldError::Disagree`] or [`WorldError::Failed`], on others
    /// [`WorldError::Ended`] if rank 0 had one.
    pub(crate) fn agree(&self, own: &Facts, cache_bytes: u64) -> Result<u64, WorldError> {
        let events = self.events();
        if self.rank() > 0 {
            // Plain data, which always has bytes.
            let body = postcard::to_stdvec(own).unwrap_or_default();
            self.control().send(&Frame::new(Kind::Facts, body));
            return match events.recv() {
                Ok((_, Frame { kind: Kind::Agreed, body, .. })) => {
                    let agreed: Agreed =
                        postcard::from_bytes(&body).map_err(|_| WorldError::Ended)?;
                    Ok(agreed.cache_bytes)
                }
                _ => Err(WorldError::Ended),
            };
        }
        for _ in 1..self.size() {
            let (rank, frame) = events.recv().map_err(|_| WorldError::Ended)?;
            if frame.kind == Kind::Failed {
                let why = String::from_utf8_lossy(&frame.body).into_owned();
                return Err(WorldError::Failed { rank, why });
            }
            // Of another version, perhaps, that says it in another way.
            compare(rank, &postcard::from_bytes(&frame.body).unwrap_or_default(), own)?;
        }
        let body = postcard::to_stdvec(&Agreed { cache_bytes }).unwrap_or_default();
        self.control().send(&Frame::new(Kind::Agreed, body));
        Ok(cache_bytes)
    }
}

/// Refuses the first fact that differs.
fn compare(rank: usize, theirs: &Facts, own: &Facts) -> Result<(), WorldError> {
    let nothing = Fact::new("", "none", "");
    for (at, fact) in own.iter().enumerate() {
        let other = theirs.get(at).unwrap_or(&nothing);
        if (&other.field, &other.value) != (&fact.field, &fact.value) {
            let Fact { field, value: ours, remedy } = fact.clone();
            let theirs = other.value.clone();
            return Err(WorldError::Disagree { rank, field, theirs, ours, remedy });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_difference_is_named_with_both_values() {
        let facts = |set: &str, chunk: usize| {
            vec![
                Fact::new("instruction set", set, "name one that all have"),
                Fact::new("chunks of", chunk, "give all as many threads"),
            ]
        };
        assert_eq!(compare(1, &facts("avx2", 512), &facts("avx2", 512)), Ok(()));
        for (theirs, expected) in [
            (
                facts("amx", 512),
                "rank 2 has instruction set amx, and rank 0 has avx2: name one that all have",
            ),
            (
                facts("avx2", 1024),
                "rank 2 has chunks of 1024, and rank 0 has 512: give all as many threads",
            ),
            (Vec::new(), "rank 2 has instruction set none, and rank 0 has avx2"),
        ] {
            let message = compare(2, &theirs, &facts("avx2", 512)).unwrap_err().to_string();
            assert!(message.starts_with(expected), "{message}");
        }
    }
}
