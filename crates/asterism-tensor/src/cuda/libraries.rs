//! NVIDIA's driver and libraries, found while the program runs.
//!
//! Nothing of CUDA is linked: the same binary runs where there is none. The bindings load each
//! library by its plain name at the first call, and *panic* when they cannot; cuDNN *aborts* the
//! process when it does not find cuBLASLt. So nothing below `tensor::cuda` calls a library before
//! this module found it: by the system's loader, or else by its full path in one of the
//! [usual folders](super::search), after which the loader knows its plain name too.

#![allow(unsafe_code)]

use std::ffi::c_int;

use super::loader::{Found, Missing, Version, Wanted};

/// What of NVIDIA's is on this machine.
#[derive(Debug, Clone)]
pub struct Libraries {
    /// libcuda, the driver: needed for everything.
    pub driver: Result<Found, Missing>,
    /// libnvrtc, which compiles our kernels.
    pub nvrtc: Result<Found, Missing>,
    /// libcublasLt, which multiplies matrices.
    pub cublaslt: Result<Found, Missing>,
    /// libcudnn, which computes attention over whole blocks.
    pub cudnn: Result<Found, Missing>,
}

impl Libraries {
    /// Looks for all of them. Takes some tens of milliseconds when they are read the first time;
    /// needs no GPU.
    pub fn find() -> Self {
        Self { driver: driver(), nvrtc: nvrtc(), cublaslt: cublaslt(), cudnn: cudnn() }
    }
}

/// Finds the driver.
pub(super) fn driver() -> Result<Found, Missing> {
    const DRIVER: Wanted = Wanted {
        library: "libcuda",
        names: &["cuda", "nvcuda"],
        files: &["libcuda.so.1"],
        beside: None,
        // The last is the newest function of those we call: it came with CUDA 12.8.
        symbols: &[c"cuInit", c"cuMemAllocAsync", c"cuEventElapsedTime_v2"],
        remedy: "install NVIDIA's driver, 580 or newer (in a container: run it with its GPUs passed through)",
    };
    let library = DRIVER.load()?;
    let mut version: c_int = 0;
    // SAFETY: loaded; the call only writes the version, and needs no initialised driver.
    unsafe { cudarc::driver::sys::cuDriverGetVersion(&mut version) };
    let version = version.max(0) as usize;
    library.found(Version { major: version / 1000, minor: version % 1000 / 10, patch: 0 })
}

/// Finds the compiler of kernels.
pub(super) fn nvrtc() -> Result<Found, Missing> {
    const NVRTC: Wanted = Wanted {
        library: "libnvrtc",
        names: &["nvrtc"],
        files: &["libnvrtc.so.13", "libnvrtc.so.12"],
        beside: Some("libnvrtc-builtins.so"),
        symbols: &[c"nvrtcVersion", c"nvrtcCompileProgram", c"nvrtcGetCUBIN"],
        remedy: "install the CUDA toolkit 13, or `pip install nvidia-cuda-nvrtc` in the active \
                 Python environment",
    };
    let library = NVRTC.load()?;
    let (mut major, mut minor): (c_int, c_int) = (0, 0);
    // SAFETY: loaded; the call only writes the two numbers.
    unsafe { cudarc::nvrtc::sys::nvrtcVersion(&mut major, &mut minor) };
    library.found(Version { major: major as usize, minor: minor as usize, patch: 0 })
}

/// Finds the matrix products.
pub(super) fn cublaslt() -> Result<Found, Missing> {
    const CUBLASLT: Wanted = Wanted {
        library: "libcublasLt",
        names: &["cublasLt"],
        files: &["libcublasLt.so.13", "libcublasLt.so.12"],
        beside: None,
        symbols: &[c"cublasLtGetVersion", c"cublasLtMatmul", c"cublasLtMatmulAlgoGetHeuristic"],
        remedy: "install the CUDA toolkit 13, or `pip install nvidia-cublas` in the active Python \
                 environment",
    };
    let library = CUBLASLT.load()?;
    // SAFETY: loaded; the call takes nothing and returns a number.
    let version = unsafe { cudarc::cublaslt::sys::cublasLtGetVersion() };
    library.found(packed(version))
}

/// Finds the attention kernels, and first what they abort without.
pub(super) fn cudnn() -> Result<Found, Missing> {
    let beside = [("NVRTC", nvrtc()), ("cuBLASLt", cublaslt())];
    for (_, needed) in &beside {
        if let Err(Missing { library, why, .. }) = needed {
            return Err(CUDNN.missing(format!("it needs {library}, and {why}")));
        }
    }
    let library = CUDNN.load()?;
    // SAFETY: loaded; both calls take nothing and return a number.
    let (version, cuda) = unsafe {
        (cudarc::cudnn::sys::cudnnGetVersion(), cudarc::cudnn::sys::cudnnGetCudartVersion())
    };
    let (version, cuda) = (packed(version), cuda / 1000);
    if version < OLDEST_CUDNN {
        return Err(CUDNN.missing(format!("{version} is older than {OLDEST_CUDNN}")));
    }
    // Built for another CUDA, it looks for other files than those found.
    for (name, needed) in beside {
        match needed {
            Ok(found) if found.version.major != cuda => {
                let other = found.version;
                let why = format!("it is built for CUDA {cuda}, and {name} is {other}");
                return Err(CUDNN.missing(why));
            }
            _ => {}
        }
    }
    library.found(version)
}

const CUDNN: Wanted = Wanted {
    library: "libcudnn",
    names: &["cudnn"],
    files: &["libcudnn.so.9"],
    beside: None,
    symbols: &[c"cudnnGetVersion", c"cudnnBackendExecute", c"cudnnGetLastErrorString"],
    remedy: "`pip install nvidia-cudnn-cu13` in the active Python environment, or install cuDNN 9 \
             for CUDA 13 with the system's packages",
};

/// With this version came masks of minus infinity; masks aligned to the last key came before.
const OLDEST_CUDNN: Version = Version { major: 9, minor: 10, patch: 0 };

/// `number` as NVIDIA packs versions: 91900 is 9.19.0 and 130100 is 13.1.0.
fn packed(number: usize) -> Version {
    Version { major: number / 10_000, minor: number % 10_000 / 100, patch: number % 100 }
}

#[cfg(test)]
mod tests {
    use super::{Libraries, Version, packed};

    #[test]
    fn looking_never_panics_and_says_what_to_install() {
        let libraries = Libraries::find();
        let all = [&libraries.driver, &libraries.nvrtc, &libraries.cublaslt, &libraries.cudnn];
        for library in all {
            match library {
                Ok(found) => println!("{} {}", found.path.display(), found.version),
                Err(missing) => println!("{missing}"),
            }
            match library {
                Ok(found) => assert!(found.version.major > 0 && !found.path.as_os_str().is_empty()),
                Err(missing) => {
                    assert!(missing.to_string().contains("install"), "{missing}");
                    assert!(!missing.why.is_empty());
                }
            }
        }
        if libraries.cublaslt.is_err() {
            assert!(libraries.cudnn.is_err(), "cuDNN aborts the process without cuBLASLt");
        }
    }

    #[test]
    fn versions_read_and_compare() {
        assert_eq!(packed(91900), Version { major: 9, minor: 19, patch: 0 });
        assert_eq!(packed(130_103).to_string(), "13.1.3");
        assert!(packed(90501) < super::OLDEST_CUDNN);
    }
}
