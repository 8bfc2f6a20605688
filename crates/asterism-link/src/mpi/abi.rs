//! How the three binary interfaces of MPI libraries differ: what a handle is, and which values its
//! constants have. One of them fits every library in use.

use std::ffi::c_int;

/// A handle as it is passed: a pointer's worth (Open MPI, MPI-5) or an int (MPICH).
pub(super) trait Handle: Copy + 'static {
    /// Any value, for a variable that the library will fill.
    const EMPTY: Self;
}

impl Handle for usize {
    const EMPTY: Self = 0;
}

impl Handle for c_int {
    const EMPTY: Self = 0;
}

/// An interface, by the libraries that have it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Abi {
    /// Open MPI 4 and 5.
    OpenMpi,
    /// MPICH and what shares its interface: Intel MPI, Cray MPICH, MVAPICH.
    Mpich,
    /// The standard one of MPI 5, of any library built with it.
    Standard,
}

impl std::fmt::Display for Abi {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::OpenMpi => "Open MPI",
            Self::Mpich => "MPICH",
            Self::Standard => "MPI 5",
        })
    }
}

/// The constants of an interface.
#[derive(Clone, Copy)]
pub(super) struct Constants<H> {
    /// `MPI_COMM_WORLD`
    pub(super) world: H,
    /// `MPI_BYTE`
    pub(super) byte: H,
    /// `MPI_ERRORS_RETURN`
    pub(super) errors_return: H,
    /// `MPI_ANY_SOURCE`
    pub(super) any_source: c_int,
    /// `MPI_ANY_TAG`
    pub(super) any_tag: c_int,
    /// `MPI_THREAD_FUNNELED`: one thread calls MPI, and others exist.
    pub(super) funneled: c_int,
    /// Ints before `MPI_SOURCE` and before `MPI_TAG` in an `MPI_Status`.
    pub(super) source_at: usize,
    pub(super) tag_at: usize,
}

/// Where Open MPI has the objects that its handles point to.
#[derive(Clone, Copy)]
pub(super) struct OpenMpiObjects {
    pub(super) world: usize,
    pub(super) byte: usize,
    pub(super) errors_return: usize,
}

impl OpenMpiObjects {
    pub(super) const fn constants(self) -> Constants<usize> {
        let Self { world, byte, errors_return } = self;
        let (any_source, any_tag) = (-1, -1);
        let (source_at, tag_at) = (0, 1);
        Constants {
            world,
            byte,
            errors_return,
            any_source,
            any_tag,
            funneled: 1,
            source_at,
            tag_at,
        }
    }
}

pub(super) const MPICH: Constants<c_int> = Constants {
    world: 0x4400_0000,
    byte: 0x4c00_010d,
    errors_return: 0x5400_0001,
    any_source: -2,
    any_tag: -1,
    funneled: 1,
    source_at: 2,
    tag_at: 3,
};

pub(super) const STANDARD: Constants<usize> = Constants {
    world: 0x101,
    byte: 0x247,
    errors_return: 0x143,
    any_source: -1,
    any_tag: -2,
    funneled: 1024,
    source_at: 0,
    tag_at: 1,
};
