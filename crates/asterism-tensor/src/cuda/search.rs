//! Where NVIDIA's libraries may lie when the system's loader does not find them.
//!
//! Most machines with a GPU have them twice: in a toolkit below `/usr/local`, or as pip packages
//! (`nvidia-*`) of the Python environment that holds PyTorch. The second is derived from the
//! environment's files alone; no Python is started.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// Symbolic links followed from `python3` on, one environment each at most.
const MAX_LINKS: usize = 16;

/// The folders in which this process finds NVIDIA's libraries where the system's loader does not,
/// most specific first.
#[must_use]
pub fn library_folders() -> Vec<PathBuf> {
    folders(|name| std::env::var_os(name))
}

/// The folders that may hold libraries, most specific first, each once and existing.
///
/// `variable` reads an environment variable; the file system is read as it is.
pub(super) fn folders(variable: impl Fn(&str) -> Option<OsString>) -> Vec<PathBuf> {
    let path_of = |name: &str| variable(name).filter(|v| !v.is_empty()).map(PathBuf::from);
    let conda = path_of("CONDA_PREFIX");

    let mut prefixes: Vec<PathBuf> = path_of("VIRTUAL_ENV").into_iter().collect();
    prefixes.extend(conda.clone());
    prefixes.extend(python_prefixes(variable("PATH")));
    prefixes.extend(path_of("HOME").map(|home| home.join(".local")));

    let mut found: Vec<PathBuf> = prefixes.iter().flat_map(|prefix| pip_folders(prefix)).collect();
    // A conda environment keeps the toolkit's own packages beside its other libraries.
    found.extend(conda.map(|prefix| prefix.join("lib")));
    found.extend(toolkit_folders(Path::new("/usr/local")));
    found.push("/usr/local/nvidia/lib64".into());
    found.push("/usr/lib/wsl/lib".into());

    let mut seen = BTreeSet::new();
    found.retain(|folder| folder.is_dir() && seen.insert(folder.clone()));
    found
}

/// The prefixes of the first `python3` on `path`: the folder above the one it lies in, and the same
/// for each link it goes through (`/usr/local/bin/python3` may lead into an environment, whose own
/// `python3` leads to the system's).
fn python_prefixes(path: Option<OsString>) -> Vec<PathBuf> {
    let path = path.unwrap_or_default();
    let on_path = std::env::split_paths(&path).map(|folder| folder.join("python3"));
    let Some(mut python) = on_path.into_iter().find(|python| python.is_file()) else {
        return Vec::new();
    };
    let mut prefixes = Vec::new();
    for _ in 0..MAX_LINKS {
        let Some(folder) = python.parent() else { break };
        prefixes.extend(folder.parent().map(Path::to_path_buf));
        let Ok(target) = python.read_link() else { break };
        // A relative link counts from the folder it lies in; an absolute one replaces it.
        python = folder.join(target);
    }
    // Debian's own Python installs what pip installs for everyone here.
    prefixes.push("/usr/local".into());
    prefixes
}

/// `nvidia/*/lib` in each of the site folders of a Python `prefix`.
fn pip_folders(prefix: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for lib in ["lib", "lib64"] {
        for python in children(&prefix.join(lib), "python3") {
            for site in ["site-packages", "dist-packages"] {
                let packages = children(&python.join(site).join("nvidia"), "");
                found.extend(packages.into_iter().map(|package| package.join("lib")));
            }
        }
    }
    found
}

/// The library folders of the toolkits below `root`: `cuda` itself (a link to the one in use), then
/// the others, newest first.
fn toolkit_folders(root: &Path) -> Vec<PathBuf> {
    let mut toolkits = children(root, "cuda-");
    toolkits.push(root.join("cuda"));
    toolkits.reverse();
    toolkits
        .iter()
        .flat_map(|toolkit| [toolkit.join("lib64"), toolkit.join("targets/x86_64-linux/lib")])
        .collect()
}

/// The entries of `folder` whose names start with `start`, in order; none if it cannot be read.
pub(super) fn children(folder: &Path, start: &str) -> Vec<PathBuf> {
    let Ok(entries) = folder.read_dir() else { return Vec::new() };
    let mut found: Vec<PathBuf> = entries
        .filter_map(Result::ok)
        .filter(|entry| entry.file_name().to_string_lossy().starts_with(start))
        .map(|entry| entry.path())
        .collect();
    found.sort();
    found
}

#[cfg(all(test, unix))]
mod tests {
    use super::{folders, toolkit_folders};
    use std::ffi::OsString;
    use std::fs::create_dir_all;
    use std::os::unix::fs::symlink;
    use std::path::{Path, PathBuf};

    fn create(folder: &Path) {
        create_dir_all(folder).expect("a folder to be created");
    }

    /// An environment with NVIDIA's packages below `prefix`; the folders that hold libraries.
    fn environment(prefix: &Path) -> [PathBuf; 2] {
        let site = prefix.join("lib/python3.12/site-packages/nvidia");
        let folders = [site.join("cu13/lib"), site.join("cudnn/lib")];
        folders.iter().for_each(|folder| create(folder));
        create(&prefix.join("bin"));
        folders
    }

    #[test]
    fn finds_the_packages_of_an_active_environment() {
        let root = tempfile::tempdir().unwrap();
        for name in ["VIRTUAL_ENV", "CONDA_PREFIX"] {
            let expected = environment(root.path());
            let found = folders(|asked| (asked == name).then(|| root.path().into()));
            assert_eq!(found[..2], expected, "{name}");
        }
    }

    #[test]
    fn follows_python_through_its_links() {
        let root = tempfile::tempdir().unwrap();
        let (system, venv, bin) =
            (root.path().join("usr"), root.path().join("venv"), root.path().join("opt/bin"));
        let expected = environment(&venv);
        create_dir_all(system.join("bin")).unwrap();
        create_dir_all(&bin).unwrap();
        std::fs::write(system.join("bin/python3.12"), "").unwrap();
        symlink("python3.12", system.join("bin/python3")).unwrap();
        symlink(system.join("bin/python3"), venv.join("bin/python3")).unwrap();
        symlink("../../venv/bin/python3", bin.join("python3")).unwrap();
        for path in [&bin, &venv.join("bin")] {
            let found = folders(|asked| (asked == "PATH").then(|| path.clone().into_os_string()));
            let found: Vec<PathBuf> =
                found.iter().filter_map(|folder| folder.canonicalize().ok()).collect();
            let expected = expected.each_ref().map(|folder| folder.canonicalize().unwrap());
            assert_eq!(found[..2], expected, "{}", path.display());
        }
    }

    #[test]
    fn a_link_to_itself_ends() {
        let root = tempfile::tempdir().unwrap();
        create_dir_all(root.path().join("bin")).unwrap();
        symlink("python3", root.path().join("bin/python3")).unwrap();
        let path: OsString = root.path().join("bin").into();
        folders(|asked| (asked == "PATH").then(|| path.clone()));
    }

    #[test]
    fn prefers_the_toolkit_in_use_then_the_newest() {
        let root = tempfile::tempdir().unwrap();
        for name in ["cuda-12.4", "cuda-13.0"] {
            create_dir_all(root.path().join(name).join("lib64")).unwrap();
        }
        let found = toolkit_folders(root.path());
        let expected = ["cuda/lib64", "cuda-13.0/lib64", "cuda-12.4/lib64"];
        let found: Vec<_> = found.iter().filter(|folder| folder.ends_with("lib64")).collect();
        assert_eq!(found, expected.map(|name| root.path().join(name)).iter().collect::<Vec<_>>());
    }
}
