//! Loading a library, so that the bindings find it by its plain name.

#![allow(unsafe_code)]

use std::ffi::{CStr, CString, OsString, c_char, c_void};
use std::fmt;
use std::path::{Path, PathBuf};

use super::search;

/// A library that can be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Its version. The driver's is the newest CUDA it can run.
    pub version: Version,
    /// The file it was loaded from.
    pub path: PathBuf,
}

/// A library that cannot be used: why, and what to install.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{library} cannot be used: {why}; {remedy}")]
pub struct Missing {
    /// The library, such as `libcudnn`.
    pub library: &'static str,
    /// Why not.
    pub why: String,
    /// What to do.
    pub remedy: &'static str,
}

/// A library's version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version {
    /// The first number.
    pub major: usize,
    /// The second.
    pub minor: usize,
    /// The third; 0 where the library does not tell.
    pub patch: usize,
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.patch)
    }
}

/// A library to look for.
pub(super) struct Wanted {
    pub(super) library: &'static str,
    /// Its names for the bindings, which add the system's affixes.
    pub(super) names: &'static [&'static str],
    /// Its file's names in one of the usual folders, best first.
    pub(super) files: &'static [&'static str],
    /// The start of the names of files beside it that it loads by plain name at its first use, and
    /// would not find in a folder the loader does not know.
    pub(super) beside: Option<&'static str>,
    /// Functions it must have: an older file that lacks one counts as missing.
    pub(super) symbols: &'static [&'static CStr],
    pub(super) remedy: &'static str,
}

/// A loaded library. It stays loaded: the bindings keep pointers into it.
pub(super) struct Loaded<'a> {
    wanted: &'a Wanted,
    /// The address of one of its functions.
    symbol: *mut c_void,
}

impl Wanted {
    /// Loads the library so that the bindings' own loading, by plain name, finds the same file.
    pub(super) fn load(&self) -> Result<Loaded<'_>, Missing> {
        let by_name = |name: &&str| {
            cudarc::get_lib_name_candidates(name).iter().find_map(|file| open(Path::new(file)).ok())
        };
        if let Some(handle) = self.names.iter().find_map(by_name) {
            return self.verify(handle);
        }
        // Remembers the last failure of a file that is there: it says what is wrong with it.
        let mut why = "no such file in the loader's path or the usual folders".to_string();
        let folders = search::library_folders();
        let paths = self.files.iter().flat_map(|file| folders.iter().map(move |f| f.join(file)));
        for path in paths.filter(|path| path.is_file()) {
            match open(&path) {
                // The file's own name must be one the bindings ask for.
                Ok(_) if self.names.iter().any(|name| by_name(name).is_some()) => {
                    path.parent().into_iter().for_each(|folder| self.load_beside(folder));
                    return self.verify(open(&path).map_err(|error| self.missing(error))?);
                }
                Ok(_) => why = format!("{} does not go by its name", path.display()),
                Err(error) => why = error,
            }
        }
        Err(self.missing(why))
    }

    /// Loads the helpers in the library's folder. One that is needed and cannot be loaded shows in
    /// the library's own error at its first use.
    fn load_beside(&self, folder: &Path) {
        if let Some(start) = self.beside {
            search::children(folder, start).iter().for_each(|path| drop(open(path)));
        }
    }

    fn verify(&self, handle: *mut c_void) -> Result<Loaded<'_>, Missing> {
        let mut symbol = std::ptr::null_mut();
        for name in self.symbols {
            // SAFETY: the handle is open (and never closed), the name ends in a zero.
            symbol = unsafe { libc::dlsym(handle, name.as_ptr()) };
            if symbol.is_null() {
                return Err(self.missing(format!("it is too old: no {}", name.to_string_lossy())));
            }
        }
        Ok(Loaded { wanted: self, symbol })
    }

    pub(super) fn missing(&self, why: String) -> Missing {
        Missing { library: self.library, why, remedy: self.remedy }
    }
}

impl Loaded<'_> {
    pub(super) fn found(&self, version: Version) -> Result<Found, Missing> {
        if version.major == 0 {
            return Err(self.wanted.missing("it does not tell its version".into()));
        }
        Ok(Found { version, path: self.path() })
    }

    /// The file the library came from.
    fn path(&self) -> PathBuf {
        // SAFETY: all-zero is a valid value of this plain C struct, which the call below fills in.
        let mut info: libc::Dl_info = unsafe { std::mem::zeroed() };
        // SAFETY: the call reads the address as a number and writes `info`.
        let known = unsafe { libc::dladdr(self.symbol, &mut info) };
        if known == 0 || info.dli_fname.is_null() {
            return self.wanted.library.into();
        }
        // SAFETY: the loader's own string, alive while the library is loaded: for ever.
        let name = unsafe { CStr::from_ptr(info.dli_fname) };
        name.to_string_lossy().into_owned().into()
    }
}

/// Loads a file (or a plain name, by the loader's path) for good, visible to what is loaded later.
fn open(file: &Path) -> Result<*mut c_void, String> {
    let name = CString::new(OsString::from(file).into_encoded_bytes())
        .map_err(|_| format!("{} has a zero byte in its name", file.display()))?;
    // SAFETY: the name ends in a zero. Loading runs the library's initialisers: these are NVIDIA's,
    // which the user asked for by running on a GPU.
    let handle = unsafe { libc::dlopen(name.as_ptr(), libc::RTLD_LAZY | libc::RTLD_GLOBAL) };
    if !handle.is_null() {
        return Ok(handle);
    }
    // SAFETY: no arguments; the string belongs to this thread until its next call of the loader.
    let error: *const c_char = unsafe { libc::dlerror() };
    match error.is_null() {
        true => Err(format!("{} cannot be loaded", file.display())),
        // SAFETY: not null, so a string that ends in a zero.
        false => Err(unsafe { CStr::from_ptr(error) }.to_string_lossy().into_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::Wanted;

    #[test]
    fn an_older_library_counts_as_missing() {
        let wanted = Wanted {
            library: "libc",
            names: &["c"],
            files: &[],
            beside: None,
            symbols: &[c"getenv", c"no_such_function"],
            remedy: "install a newer one",
        };
        // SAFETY: no name: the program itself, which is loaded.
        let handle = unsafe { libc::dlopen(std::ptr::null(), libc::RTLD_LAZY) };
        let Err(missing) = wanted.verify(handle) else { panic!("found no_such_function") };
        assert!(missing.why.contains("no_such_function"), "{missing}");
    }
}
