//! Methods, sizes and shares as people write them: `star:block=16k:anchor=4k:revisit=auto`. The
//! command line, the server and Python read them here.
//!
//! * `word`: a method with its settings; `defaults`: what it is without them; `list`: several
//! * `name`: a method without them
//! * `size`: numbers of tokens, and shares of something known later
//! * `share`: what of a context is kept, or computed anew

mod defaults;
mod list;
mod name;
mod share;
mod size;
mod word;

pub use defaults::Defaults;
pub use list::MethodList;
pub use name::MethodName;
pub use share::{keep, revisit};
pub use size::{Size, short, tokens};
pub use word::MethodWord;

/// The one of `all` that has the name `value`.
///
/// # Errors
/// Names them all if there is none.
pub fn named<T: Copy>(all: &[T], name: fn(T) -> &'static str, value: &str) -> Result<T, String> {
    let found = all.iter().find(|item| name(**item).eq_ignore_ascii_case(value));
    found.copied().ok_or_else(|| {
        let names: Vec<_> = all.iter().map(|item| name(*item)).collect();
        format!("expected one of {}", names.join(", "))
    })
}
