//! An MPI library, loaded at run time: its functions by name, and the part of MPI that is used here
//! behind safe types. Everything of MPI that is `unsafe` is in this file.

#![allow(unsafe_code)]

use super::MpiError;
use super::abi::{Abi, Constants, Handle, MPICH, OpenMpiObjects, STANDARD};
use super::payload::{Buffer, Payload};
use libloading::os::unix::{Library, RTLD_GLOBAL, RTLD_NOW};
use std::ffi::{c_char, c_int, c_void};
use std::marker::PhantomData;
use std::mem::ManuallyDrop;
use std::ops::Range;
use std::ptr::null_mut;

/// An `MPI_Status` of any interface: no more than this, and in each an array of ints at its front.
#[repr(C, align(8))]
#[derive(Default)]
struct Status([c_int; 16]);

/// Declares the functions that are used, and how they are looked up.
macro_rules! functions {
    ($($field:ident = $name:literal ($($arg:ty),*);)*) => {
        struct Functions<H: Handle> {
            $($field: unsafe extern "C" fn($($arg),*) -> c_int,)*
        }

        impl<H: Handle> Functions<H> {
            /// # Safety
            /// `library` is one of MPI whose handles are `H`, and stays loaded.
            unsafe fn load(library: &Library) -> Result<Self, &'static str> {
                Ok(Self {
                    $($field: {
                        // SAFETY: MPI says that the function has this signature.
                        let found = unsafe { library.get($name) };
                        *found.map_err(|_| stringify!($field))?
                    },)*
                })
            }
        }
    };
}

functions! {
    init_thread = b"MPI_Init_thread\0" (*mut c_void, *mut c_void, c_int, *mut c_int);
    finalize = b"MPI_Finalize\0" ();
    comm_rank = b"MPI_Comm_rank\0" (H, *mut c_int);
    comm_size = b"MPI_Comm_size\0" (H, *mut c_int);
    comm_set_errhandler = b"MPI_Comm_set_errhandler\0" (H, H);
    isend = b"MPI_Isend\0" (*const c_void, c_int, H, c_int, c_int, H, *mut H);
    improbe = b"MPI_Improbe\0" (c_int, c_int, H, *mut c_int, *mut H, *mut Status);
    imrecv = b"MPI_Imrecv\0" (*mut c_void, c_int, H, *mut H, *mut H);
    get_count = b"MPI_Get_count\0" (*const Status, H, *mut c_int);
    test = b"MPI_Test\0" (*mut H, *mut c_int, *mut Status);
    allgather = b"MPI_Allgather\0" (*const c_void, c_int, H, *mut c_void, c_int, H, H);
    abort = b"MPI_Abort\0" (H, c_int);
    library_version = b"MPI_Get_library_version\0" (*mut c_char, *mut c_int);
    error_string = b"MPI_Error_string\0" (c_int, *mut c_char, *mut c_int);
}

/// The longest text that a library writes: `MPI_MAX_LIBRARY_VERSION_STRING` is 8192 in MPICH, less
/// elsewhere.
const TEXT: usize = 8192;

/// A library that was loaded and has everything that is used. It is never unloaded.
pub(super) struct Mpi<H: Handle> {
    functions: Functions<H>,
    constants: Constants<H>,
    pub(super) abi: Abi,
    /// What the library says it is, in one line.
    pub(super) version: String,
}

/// A library of either kind of handles.
pub(super) enum Loaded {
    Pointers(Mpi<usize>),
    Ints(Mpi<c_int>),
}

/// Loads the library `name`: a file, or a name that the system's loader finds.
pub(super) fn load(name: &str) -> Result<Loaded, MpiError> {
    let failed = |why: String| MpiError::NotLoaded { library: name.to_owned(), why };
    // Open MPI's plug-ins look for its symbols globally.
    // SAFETY: initialisers of an MPI library may run at any time.
    let library = unsafe { Library::open(Some(name), RTLD_NOW | RTLD_GLOBAL) };
    // Its threads and exit handlers may run to the very end of the process.
    let library = ManuallyDrop::new(library.map_err(|error| failed(crate::reason(&error)))?);
    let address = |symbol: &[u8]| {
        // SAFETY: only the symbol's address is taken.
        let found = unsafe { library.get::<*const c_void>(symbol) };
        found.ok().map(|symbol| symbol.into_raw() as usize)
    };
    let loaded = match (
        address(b"ompi_mpi_comm_world\0"),
        address(b"ompi_mpi_byte\0"),
        address(b"ompi_mpi_errors_return\0"),
    ) {
        (Some(world), Some(byte), Some(errors_return)) => {
            let constants = OpenMpiObjects { world, byte, errors_return }.constants();
            // SAFETY: these objects are Open MPI's, whose handles point to them.
            unsafe { Mpi::new(&library, constants, Abi::OpenMpi) }.map(Loaded::Pointers)
        }
        // SAFETY: the standard says that such a library has the standard's handles.
        _ if has_standard_abi(&library) => unsafe {
            Mpi::new(&library, STANDARD, Abi::Standard).map(Loaded::Pointers)
        },
        // SAFETY: all others that are in use share MPICH's interface, in which handles are ints.
        _ => unsafe { Mpi::new(&library, MPICH, Abi::Mpich).map(Loaded::Ints) },
    };
    loaded.map_err(|lacks| failed(format!("it has no MPI_{lacks}")))
}

/// Whether the library says that its interface is the standard one.
fn has_standard_abi(library: &Library) -> bool {
    type Version = unsafe extern "C" fn(*mut c_int, *mut c_int) -> c_int;
    // SAFETY: the standard says that the function has this signature.
    let Ok(version) = (unsafe { library.get::<Version>(b"MPI_Abi_get_version\0") }) else {
        return false;
    };
    let (mut major, mut minor) = (-1, -1);
    // SAFETY: it may be called at any time, and fills two ints. -1 if the interface is another.
    unsafe { version(&mut major, &mut minor) };
    major >= 1
}

/// The text of `len` bytes in `bytes`, as a library counts them.
fn text(bytes: &[u8], len: c_int) -> String {
    let len = usize::try_from(len).unwrap_or(0).min(bytes.len());
    String::from_utf8_lossy(&bytes[..len]).trim_matches(['\0', ' ', '\n']).to_owned()
}

impl<H: Handle> Mpi<H> {
    /// # Safety
    /// `library` has this interface.
    unsafe fn new(
        library: &Library,
        constants: Constants<H>,
        abi: Abi,
    ) -> Result<Self, &'static str> {
        // SAFETY: by the caller; `load` never unloads it.
        let functions = unsafe { Functions::load(library) }?;
        let (mut bytes, mut len) = ([0; TEXT], 0);
        // SAFETY: may be called before `MPI_Init`; writes no more than the longest text.
        unsafe { (functions.library_version)(bytes.as_mut_ptr().cast(), &mut len) };
        // MPICH's goes on with how it was built, Open MPI's with who did.
        let version = text(&bytes, len);
        let version = version.split([',', '\n']).next().unwrap_or_default();
        let version = version.split_whitespace().collect::<Vec<_>>().join(" ");
        Ok(Self { functions, constants, abi, version })
    }

    /// What `code` means, where it says that something went wrong.
    fn check(&self, what: &'static str, code: c_int) -> Result<(), MpiError> {
        if code == 0 {
            return Ok(());
        }
        let (mut bytes, mut len) = ([0; TEXT], 0);
        // SAFETY: writes no more than the longest text.
        unsafe { (self.functions.error_string)(code, bytes.as_mut_ptr().cast(), &mut len) };
        Err(MpiError::Failed { what, why: text(&bytes, len) })
    }

    /// Enters MPI, on the thread that alone will call it.
    pub(super) fn init(self) -> Result<World<H>, MpiError> {
        let mut level = 0;
        let Self { functions, constants, .. } = &self;
        // SAFETY: both pointers to the program's arguments may be null.
        let code = unsafe {
            (functions.init_thread)(null_mut(), null_mut(), constants.funneled, &mut level)
        };
        self.check("MPI_Init_thread", code)?;
        let world = constants.world;
        let (mut rank, mut size) = (0, 0);
        // SAFETY: MPI has been entered.
        let codes = unsafe {
            [
                (functions.comm_set_errhandler)(world, constants.errors_return),
                (functions.comm_rank)(world, &mut rank),
                (functions.comm_size)(world, &mut size),
            ]
        };
        codes.into_iter().try_for_each(|code| self.check("MPI_Comm_size", code))?;
        let (rank, size) = (rank.max(0) as usize, size.max(0) as usize);
        Ok(World { mpi: self, rank, size, one_thread: PhantomData })
    }
}

/// All processes that were started together, on the thread that entered MPI.
pub(super) struct World<H: Handle> {
    mpi: Mpi<H>,
    pub(super) rank: usize,
    pub(super) size: usize,
    /// Stays on its thread.
    one_thread: PhantomData<*const ()>,
}

/// A message that came and was not received yet.
pub(super) struct Arrived<H: Handle> {
    message: H,
    pub(super) from: usize,
    pub(super) tag: u16,
    pub(super) bytes: usize,
}

/// A message on its way out.
pub(super) struct Sending<H: Handle> {
    request: H,
    /// Read by MPI until the request is done.
    payload: ManuallyDrop<Payload>,
}

/// A message on its way in.
pub(super) struct Receiving<H: Handle> {
    request: H,
    /// Written by MPI until the request is done. Dropped before that, it stays allocated.
    buffer: ManuallyDrop<Buffer>,
}

/// What has become of a message on its way in.
pub(super) enum Received<H: Handle> {
    Whole(Buffer),
    NotYet(Receiving<H>),
}

impl<H: Handle> World<H> {
    /// Starts to send the bytes `range` of `payload` to `to`.
    pub(super) fn send(
        &self,
        to: usize,
        tag: u16,
        payload: &Payload,
        range: Range<usize>,
    ) -> Result<Sending<H>, MpiError> {
        let payload = payload.clone();
        let bytes = &payload.as_bytes()[range];
        let Mpi { functions, constants, .. } = &self.mpi;
        let (mut request, len) = (H::EMPTY, int(bytes.len()));
        // SAFETY: the bytes lie on the heap, where they stay when `payload` moves, and nobody can
        // change them while `payload` holds them: `Sending` does, until the request is done.
        let code = unsafe {
            let (from, byte, world) = (bytes.as_ptr().cast(), constants.byte, constants.world);
            (functions.isend)(from, len, byte, int(to), tag.into(), world, &mut request)
        };
        self.mpi.check("MPI_Isend", code)?;
        Ok(Sending { request, payload: ManuallyDrop::new(payload) })
    }

    /// Whether a message has left, so that its buffer is not needed any more.
    pub(super) fn has_left(&self, sending: &mut Sending<H>) -> Result<bool, MpiError> {
        let is_done = self.is_done("MPI_Isend", &mut sending.request)?;
        if is_done {
            let done = Payload::Words(std::sync::Arc::default());
            drop(ManuallyDrop::into_inner(std::mem::replace(
                &mut sending.payload,
                ManuallyDrop::new(done),
            )));
        }
        Ok(is_done)
    }

    /// The next message that has come, from anybody.
    pub(super) fn arrived(&self) -> Result<Option<Arrived<H>>, MpiError> {
        let Mpi { functions, constants, .. } = &self.mpi;
        let Constants { any_source, any_tag, world, .. } = *constants;
        let (mut is_there, mut message, mut status) = (0, H::EMPTY, Status::default());
        // SAFETY: fills three variables.
        let code = unsafe {
            (functions.improbe)(
                any_source,
                any_tag,
                world,
                &mut is_there,
                &mut message,
                &mut status,
            )
        };
        self.mpi.check("MPI_Improbe", code)?;
        if is_there == 0 {
            return Ok(None);
        }
        let mut bytes = 0;
        // SAFETY: reads the status that was just filled.
        let code = unsafe { (functions.get_count)(&status, constants.byte, &mut bytes) };
        self.mpi.check("MPI_Get_count", code)?;
        Ok(Some(Arrived {
            message,
            from: status.0[constants.source_at].max(0) as usize,
            tag: status.0[constants.tag_at] as u16,
            bytes: bytes.max(0) as usize,
        }))
    }

    /// Starts to receive `arrived` into `buffer`, from its byte `at` on.
    ///
    /// # Panics
    /// If the buffer is too small.
    pub(super) fn receive(
        &self,
        mut arrived: Arrived<H>,
        mut buffer: Buffer,
        at: usize,
    ) -> Result<Receiving<H>, MpiError> {
        let Mpi { functions, constants, .. } = &self.mpi;
        let bytes = &mut buffer.as_bytes_mut()[at..at + arrived.bytes];
        let (mut request, len) = (H::EMPTY, int(bytes.len()));
        // SAFETY: the bytes lie on the heap, where they stay when `buffer` moves, and are this
        // function's alone: `Receiving` lets nobody see them until the request is done.
        let code = unsafe {
            let to = bytes.as_mut_ptr().cast();
            (functions.imrecv)(to, len, constants.byte, &mut arrived.message, &mut request)
        };
        self.mpi.check("MPI_Imrecv", code)?;
        Ok(Receiving { request, buffer: ManuallyDrop::new(buffer) })
    }

    /// The buffer, once all of the message is in it.
    pub(super) fn received(&self, mut receiving: Receiving<H>) -> Result<Received<H>, MpiError> {
        Ok(if self.is_done("MPI_Imrecv", &mut receiving.request)? {
            Received::Whole(ManuallyDrop::into_inner(receiving.buffer))
        } else {
            Received::NotYet(receiving)
        })
    }

    fn is_done(&self, what: &'static str, request: &mut H) -> Result<bool, MpiError> {
        let (mut is_done, mut status) = (0, Status::default());
        // SAFETY: the request is one that MPI made, or the null request of one that is done.
        let code = unsafe { (self.mpi.functions.test)(request, &mut is_done, &mut status) };
        self.mpi.check(what, code)?;
        Ok(is_done != 0)
    }

    /// Every rank's `own`, all of the same length, one after the other in order of rank. Waits for
    /// all.
    pub(super) fn all_gather(&self, own: &[u8]) -> Result<Vec<u8>, MpiError> {
        let Mpi { functions, constants, .. } = &self.mpi;
        let (byte, world, len) = (constants.byte, constants.world, int(own.len()));
        let mut all = vec![0u8; own.len() * self.size];
        // SAFETY: room for the parts of all ranks; the call returns when they are there.
        let code = unsafe {
            let (from, to) = (own.as_ptr().cast(), all.as_mut_ptr().cast());
            (functions.allgather)(from, len, byte, to, len, byte, world)
        };
        self.mpi.check("MPI_Allgather", code)?;
        Ok(all)
    }

    /// Leaves MPI, when all others do.
    pub(super) fn finalize(self) -> Result<(), MpiError> {
        // SAFETY: requests that are not done own their buffers for ever.
        let code = unsafe { (self.mpi.functions.finalize)() };
        self.mpi.check("MPI_Finalize", code)
    }

    /// Asks MPI to end the processes of all ranks. May or may not return.
    pub(super) fn abort(&self, exit_code: c_int) {
        // SAFETY: MPI has been entered.
        unsafe { (self.mpi.functions.abort)(self.mpi.constants.world, exit_code) };
    }
}

/// A length or a rank, as MPI counts: pieces of messages are short enough.
fn int(count: usize) -> c_int {
    c_int::try_from(count).expect("messages are cut into pieces below 2 GiB")
}
