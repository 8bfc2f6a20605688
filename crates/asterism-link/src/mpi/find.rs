//! Which MPI library is loaded: the one of whoever started this process, since a process under
//! another's library would find itself alone.

use super::library::{self, Loaded};
use super::{Abi, MpiError};

/// Names the file of the library, in place of those that are looked for.
const VARIABLE: &str = "ASTERISM_MPI_LIBRARY";

const OPEN_MPI: &str = "libmpi.so.40";
const STANDARD: &str = "libmpi_abi.so.1";
/// MPICH as Debian names it, and everybody else.
const MPICH: [&str; 2] = ["libmpich.so.12", "libmpi.so.12"];

/// A library that can be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Its name or file.
    pub library: String,
    /// What it says it is.
    pub version: String,
    /// How it is called.
    pub abi: Abi,
}

/// The library that would be used, loaded but not entered: no other process is needed.
///
/// # Errors
/// [`MpiError::Missing`] or [`MpiError::NotLoaded`].
pub fn find() -> Result<Found, MpiError> {
    let (library, loaded) = load()?;
    let (version, abi) = match loaded {
        Loaded::Pointers(mpi) => (mpi.version, mpi.abi),
        Loaded::Ints(mpi) => (mpi.version, mpi.abi),
    };
    Ok(Found { library, version, abi })
}

/// Loads the library, and says by which name.
pub(super) fn load() -> Result<(String, Loaded), MpiError> {
    let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    if let Some(file) = variable(VARIABLE) {
        return Ok((file.clone(), library::load(&file)?));
    }
    let names = names(|name| variable(name).is_some());
    let mut why = Vec::new();
    for name in names {
        match library::load(name) {
            Ok(loaded) => return Ok(((*name).to_owned(), loaded)),
            Err(error) => why.push((name, error)),
        }
    }
    // One that is there and cannot be used is more worth knowing than those that are not there.
    let is_there = |(_, error): &(&&str, MpiError)| match error {
        MpiError::NotLoaded { why, .. } => !why.contains("No such file"),
        _ => false,
    };
    match why.iter().position(is_there) {
        Some(at) => Err(why.swap_remove(at).1),
        None => Err(MpiError::Missing { tried: names.join(", ") }),
    }
}

/// The names to look for, best first, by the variables that are set.
fn names(is_set: impl Fn(&str) -> bool) -> &'static [&'static str] {
    if is_set("OMPI_COMM_WORLD_SIZE") {
        &[OPEN_MPI, STANDARD]
    } else if is_set("PMI_SIZE") && !is_set("SLURM_STEP_NUM_TASKS") {
        &[MPICH[0], MPICH[1], STANDARD]
    } else {
        &[OPEN_MPI, MPICH[0], MPICH[1], STANDARD]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_library_fits_the_launcher() {
        let with = |set: &[&str]| names(|name| set.contains(&name)).to_vec();
        assert_eq!(with(&["OMPI_COMM_WORLD_SIZE", "PMI_SIZE"]), [OPEN_MPI, STANDARD]);
        assert_eq!(with(&["PMI_SIZE"]), [MPICH[0], MPICH[1], STANDARD]);
        assert_eq!(with(&["PMI_SIZE", "SLURM_STEP_NUM_TASKS"]).len(), 4);
        assert_eq!(with(&[])[0], OPEN_MPI);
    }

    #[test]
    fn a_file_that_is_no_library_is_refused_by_its_name() {
        let error = library::load("/etc/hostname").err().unwrap().to_string();
        assert!(error.contains("/etc/hostname"), "{error}");
        // The C library is one, but not of MPI.
        let error = library::load("libc.so.6").err().unwrap().to_string();
        assert!(error.contains("it has no MPI_"), "{error}");
    }
}
