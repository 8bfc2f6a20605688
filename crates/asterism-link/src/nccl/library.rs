//! An NCCL library, loaded at run time: its functions by name.

#![allow(unsafe_code)]

use super::NcclError;
use super::find::Found;
use asterism_tensor::cuda::Version;
use libloading::os::unix::{Library as Shared, RTLD_LOCAL, RTLD_NOW};
use std::ffi::{CStr, OsStr, c_char, c_int, c_uint, c_void};
use std::mem::ManuallyDrop;
use std::path::PathBuf;
use std::ptr::null;

/// `ncclComm_t`.
pub(super) type Handle = *mut c_void;

/// What tells the communicators of one group from those of others: rank 0 makes it, all ranks
/// [connect](super::Communicator::connect) with it. Good for one group once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub struct Id([u8; Id::BYTES]);

impl Id {
    /// How many bytes it has.
    pub const BYTES: usize = 128;

    /// Its bytes, to be sent to other ranks.
    #[must_use]
    pub fn bytes(&self) -> &[u8; Self::BYTES] {
        &self.0
    }

    /// The id of these bytes, if they are as many as it has.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }
}

/// `ncclConfig_t` as of version 2.28, whose size says which fields a library may read. Fields that
/// are left undefined are the library's choice.
#[repr(C)]
pub(super) struct Config {
    size: usize,
    magic: c_uint,
    version: c_uint,
    blocking: c_int,
    cga_cluster_size: c_int,
    min_ctas: c_int,
    max_ctas: c_int,
    net_name: *const c_char,
    split_share: c_int,
    traffic_class: c_int,
    comm_name: *const c_char,
    collnet_enable: c_int,
    cta_policy: c_int,
    shrink_share: c_int,
    nvls_ctas: c_int,
    channels_per_net_peer: c_int,
    nvlink_centric_sched: c_int,
}

/// `NCCL_CONFIG_UNDEF_INT`.
const UNDEFINED: c_int = c_int::MIN;

impl Config {
    /// Calls return at once and say later whether they succeeded.
    pub(super) fn non_blocking() -> Self {
        Self {
            size: size_of::<Self>(),
            magic: 0xcafe_beef,
            version: 22_800,
            blocking: 0,
            cga_cluster_size: UNDEFINED,
            min_ctas: UNDEFINED,
            max_ctas: UNDEFINED,
            net_name: null(),
            split_share: UNDEFINED,
            traffic_class: UNDEFINED,
            comm_name: null(),
            collnet_enable: UNDEFINED,
            cta_policy: UNDEFINED,
            shrink_share: UNDEFINED,
            nvls_ctas: UNDEFINED,
            channels_per_net_peer: UNDEFINED,
            nvlink_centric_sched: UNDEFINED,
        }
    }
}

/// Declares the functions that are used, and how they are looked up.
macro_rules! functions {
    ($($field:ident = $name:literal ($($arg:ty),*) -> $result:ty;)*) => {
        pub(super) struct Functions {
            $(pub(super) $field: unsafe extern "C" fn($($arg),*) -> $result,)*
        }

        impl Functions {
            /// # Safety
            /// `library` is NCCL, and stays loaded.
            unsafe fn load(library: &Shared) -> Result<Self, &'static str> {
                Ok(Self {
                    $($field: {
                        // SAFETY: NCCL's header says that the function has this signature.
                        let found = unsafe { library.get($name) };
                        let name = $name.strip_suffix(b"\0").unwrap_or($name);
                        *found.map_err(|_| std::str::from_utf8(name).unwrap_or_default())?
                    },)*
                })
            }
        }
    };
}

functions! {
    get_version = b"ncclGetVersion\0" (*mut c_int) -> c_int;
    get_unique_id = b"ncclGetUniqueId\0" (*mut Id) -> c_int;
    init_rank = b"ncclCommInitRankConfig\0" (*mut Handle, c_int, Id, c_int, *mut Config) -> c_int;
    async_error = b"ncclCommGetAsyncError\0" (Handle, *mut c_int) -> c_int;
    abort = b"ncclCommAbort\0" (Handle) -> c_int;
    error_string = b"ncclGetErrorString\0" (c_int) -> *const c_char;
    last_error = b"ncclGetLastError\0" (Handle) -> *const c_char;
    group_start = b"ncclGroupStart\0" () -> c_int;
    group_end = b"ncclGroupEnd\0" () -> c_int;
    send = b"ncclSend\0" (*const c_void, usize, c_int, c_int, Handle, *mut c_void) -> c_int;
    recv = b"ncclRecv\0" (*mut c_void, usize, c_int, c_int, Handle, *mut c_void) -> c_int;
    broadcast = b"ncclBroadcast\0"
        (*const c_void, *mut c_void, usize, c_int, c_int, Handle, *mut c_void) -> c_int;
    all_gather = b"ncclAllGather\0"
        (*const c_void, *mut c_void, usize, c_int, Handle, *mut c_void) -> c_int;
}

/// `ncclSuccess`.
pub(super) const SUCCESS: c_int = 0;
/// `ncclInProgress`.
pub(super) const IN_PROGRESS: c_int = 7;
/// `ncclUint8`.
pub(super) const BYTE: c_int = 1;

/// A library that was loaded and has everything that is used. It is never unloaded.
pub struct Library {
    pub(super) functions: Functions,
    found: Found,
}

impl Library {
    /// Loads the library `name`: a file, or a name that the system's loader finds.
    ///
    /// # Errors
    /// [`NcclError::NotLoaded`].
    pub(super) fn open(name: &OsStr) -> Result<Self, NcclError> {
        let failed =
            |why: String| NcclError::NotLoaded { library: name.to_string_lossy().into(), why };
        // SAFETY: initialisers of NCCL may run at any time.
        let library = unsafe { Shared::open(Some(name), RTLD_NOW | RTLD_LOCAL) };
        // Its threads may run to the very end of the process.
        let library = ManuallyDrop::new(library.map_err(|error| failed(crate::reason(&error)))?);
        // SAFETY: `functions` refuses what lacks one of NCCL's; it is never unloaded.
        let functions = unsafe { Functions::load(&library) }
            .map_err(|lacks| failed(format!("it has no {lacks}")))?;
        let mut version = 0;
        // SAFETY: may be called at any time; writes one int.
        let code = unsafe { (functions.get_version)(&mut version) };
        if code != SUCCESS {
            return Err(failed("it does not tell its version".to_owned()));
        }
        let found = Found { version: unpack(version), path: path(functions.get_version, name) };
        Ok(Self { functions, found })
    }

    /// Where it is, and its version.
    #[must_use]
    pub fn found(&self) -> &Found {
        &self.found
    }

    /// An id for a new group. Needs no GPU.
    ///
    /// # Errors
    /// If NCCL finds no network interface.
    pub fn new_id(&self) -> Result<Id, NcclError> {
        let mut id = Id([0; Id::BYTES]);
        // SAFETY: writes as many bytes as an id has.
        let code = unsafe { (self.functions.get_unique_id)(&mut id) };
        self.check("ncclGetUniqueId", code).map(|()| id)
    }

    /// What `code` means, where it says that something went wrong. That something is not done yet
    /// is no error.
    pub(super) fn check(&self, call: &'static str, code: c_int) -> Result<(), NcclError> {
        if code == SUCCESS || code == IN_PROGRESS {
            return Ok(());
        }
        // SAFETY: both return strings that end in a zero and stay, or null; the handle is of no
        // account.
        let [text, last] = unsafe {
            [(self.functions.error_string)(code), (self.functions.last_error)(std::ptr::null_mut())]
                .map(|text| match text.is_null() {
                    true => String::new(),
                    false => CStr::from_ptr(text).to_string_lossy().trim().to_owned(),
                })
        };
        Err(NcclError::Failed { call, code, text, last })
    }
}

/// 22809 is 2.28.9.
fn unpack(version: c_int) -> Version {
    let version = version.max(0) as usize;
    Version { major: version / 10_000, minor: version % 10_000 / 100, patch: version % 100 }
}

/// The file that `function` came from.
fn path(function: unsafe extern "C" fn(*mut c_int) -> c_int, name: &OsStr) -> PathBuf {
    // SAFETY: all-zero is a valid value of this plain C struct, which the call below fills in.
    let mut info: libc::Dl_info = unsafe { std::mem::zeroed() };
    // SAFETY: the call reads the address as a number and writes `info`.
    let known = unsafe { libc::dladdr(function as *const c_void, &mut info) };
    if known == 0 || info.dli_fname.is_null() {
        return name.into();
    }
    // SAFETY: the loader's own string, alive while the library is loaded: for ever.
    let name = unsafe { CStr::from_ptr(info.dli_fname) };
    name.to_string_lossy().into_owned().into()
}
