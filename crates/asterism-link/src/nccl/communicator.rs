//! One rank of a group: what it sends and receives.

#![allow(unsafe_code)]

use super::library::{BYTE, Config, Handle, IN_PROGRESS, SUCCESS};
use super::{Id, Library, NcclError};
use asterism_tensor::cuda::{Device, Piece, Stream};
use std::ffi::c_int;
use std::ptr::null_mut;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Where a communicator's work goes.
#[derive(Clone, Copy)]
pub enum Place<'a> {
    /// The stream of the device's own work, or, while the calling thread records a step, that step.
    Device,
    /// A stream beside it.
    Beside(&'a Stream),
}

/// Memory that travels.
#[derive(Clone, Copy)]
pub enum Message<'a> {
    /// To a rank.
    To(usize, &'a Piece),
    /// From a rank, which sends as many bytes.
    From(usize, &'a Piece),
}

/// How long to look whether a call is done before giving other threads the processor in between.
const BRISK: Duration = Duration::from_micros(200);

/// This process's end of a group. What is enqueued on two places is ordered by events, if at all:
/// no two calls may be under way on the device at once.
pub struct Communicator {
    library: Arc<Library>,
    device: Arc<Device>,
    handle: Handle,
    size: usize,
}

// SAFETY: NCCL's functions may be called from any thread, one at a time for a communicator, which
// exclusive borrows see to.
unsafe impl Send for Communicator {}

impl Communicator {
    /// Connects rank `rank` of `size` to the others, which connect with the same `id`. Looks at
    /// `goes_on` while it waits for them.
    ///
    /// # Errors
    /// [`NcclError::Stopped`] when that says no; [`NcclError::Failed`].
    pub fn connect(
        library: &Arc<Library>,
        device: &Arc<Device>,
        id: &Id,
        (rank, size): (usize, usize),
        goes_on: &dyn Fn() -> bool,
    ) -> Result<Self, NcclError> {
        device.bind()?;
        let mut config = Config::non_blocking();
        let (library, device) = (Arc::clone(library), Arc::clone(device));
        let mut all = Self { library, device, handle: null_mut(), size };
        let (ranks, rank) = (int(size), int(rank));
        // SAFETY: the device is current; the call copies id and config, and writes the handle.
        let code = unsafe {
            let init = all.library.functions.init_rank;
            init(&mut all.handle, ranks, *id, rank, &mut config)
        };
        // What failed is given back when `all` is dropped.
        all.library.check("ncclCommInitRankConfig", code)?;
        all.wait("ncclCommInitRankConfig", goes_on)?;
        Ok(all)
    }

    /// Gives the `messages`, which all ranks that take part give at the same place of their order,
    /// to the stream at `place`, to travel at once. Returns when they are there; they travel when
    /// the stream gets to them. Where others are to be connected to first, looks at `goes_on`
    /// meanwhile.
    ///
    /// Whoever reads or writes the memory on another stream must order that by events.
    ///
    /// # Errors
    /// [`NcclError::Stopped`] when `goes_on` says no; [`NcclError::Failed`]. Then the communicator
    /// is good for nothing but [`Self::abort`].
    ///
    /// # Panics
    /// If a piece is of another device, or a rank is none.
    pub fn exchange(
        &mut self,
        place: Place<'_>,
        messages: &[Message<'_>],
        goes_on: &dyn Fn() -> bool,
    ) -> Result<(), NcclError> {
        let stream = self.stream(place)?;
        self.group("ncclSend", goes_on, |this| {
            let functions = &this.library.functions;
            messages.iter().try_for_each(|message| {
                let (Message::To(rank, piece) | Message::From(rank, piece)) = *message;
                assert!(rank < this.size, "rank {rank} of {}", this.size);
                this.own(piece);
                let (address, bytes, rank) = (piece.address(), piece.bytes(), int(rank));
                // SAFETY: the piece is as many bytes of this device; whoever gave it keeps it until
                // the stream has done this, by the contract of `exchange`.
                let code = unsafe {
                    match message {
                        Message::To(..) => (functions.send)(
                            address as *const _,
                            bytes,
                            BYTE,
                            rank,
                            this.handle,
                            stream,
                        ),
                        Message::From(..) => (functions.recv)(
                            address as *mut _,
                            bytes,
                            BYTE,
                            rank,
                            this.handle,
                            stream,
                        ),
                    }
                };
                this.library.check("ncclSend", code)
            })
        })
    }

    /// For each of `all`, which has a place of equal size for every rank in their order, brings
    /// what each rank has at its place to all others. Otherwise as [`Self::exchange`].
    ///
    /// # Errors
    /// As [`Self::exchange`].
    ///
    /// # Panics
    /// If a piece is of another device.
    pub fn gather_all(
        &mut self,
        place: Place<'_>,
        rank: usize,
        all: &[Piece],
        goes_on: &dyn Fn() -> bool,
    ) -> Result<(), NcclError> {
        let stream = self.stream(place)?;
        self.group("ncclAllGather", goes_on, |this| {
            all.iter().try_for_each(|piece| {
                this.own(piece);
                let bytes = piece.bytes() / this.size;
                let own = piece.address() + (rank * bytes) as u64;
                // SAFETY: the piece has a place of so many bytes for every rank; the rest as in
                // `exchange`.
                let code = unsafe {
                    (this.library.functions.all_gather)(
                        own as *const _,
                        piece.address() as *mut _,
                        bytes,
                        BYTE,
                        this.handle,
                        stream,
                    )
                };
                this.library.check("ncclAllGather", code)
            })
        })
    }

    /// Brings what rank `root` has in `piece` to the pieces of all others, which are as long.
    /// Otherwise as [`Self::exchange`].
    ///
    /// # Errors
    /// As [`Self::exchange`].
    ///
    /// # Panics
    /// If the piece is of another device, or `root` is no rank.
    pub fn broadcast(
        &mut self,
        place: Place<'_>,
        root: usize,
        piece: &Piece,
        goes_on: &dyn Fn() -> bool,
    ) -> Result<(), NcclError> {
        assert!(root < self.size, "rank {root} of {}", self.size);
        let stream = self.stream(place)?;
        self.group("ncclBroadcast", goes_on, |this| {
            this.own(piece);
            let (address, bytes) = (piece.address(), piece.bytes());
            // SAFETY: the piece is as many bytes of this device, sent or filled in place; the rest
            // as in `exchange`.
            let code = unsafe {
                (this.library.functions.broadcast)(
                    address as *const _,
                    address as *mut _,
                    bytes,
                    BYTE,
                    int(root),
                    this.handle,
                    stream,
                )
            };
            this.library.check("ncclBroadcast", code)
        })
    }

    /// What went wrong since it was connected, if anything did.
    ///
    /// # Errors
    /// [`NcclError::Failed`].
    pub fn health(&self) -> Result<(), NcclError> {
        self.state().and_then(|state| self.library.check("ncclCommGetAsyncError", state))
    }

    /// Gives up what travels: streams that wait for it go on. Takes a while, or for ever where
    /// other ranks do not do the same.
    pub fn abort(self) {
        drop(self);
    }

    /// Runs `calls` as one.
    fn group(
        &mut self,
        call: &'static str,
        goes_on: &dyn Fn() -> bool,
        calls: impl FnOnce(&Self) -> Result<(), NcclError>,
    ) -> Result<(), NcclError> {
        let functions = &self.library.functions;
        // SAFETY: begins a group on this thread, which the other call ends.
        self.library.check("ncclGroupStart", unsafe { (functions.group_start)() })?;
        let given = calls(self);
        // SAFETY: as above.
        let ended = unsafe { (functions.group_end)() };
        given?;
        self.library.check(call, ended)?;
        if ended == IN_PROGRESS { self.wait(call, goes_on) } else { Ok(()) }
    }

    /// Waits until the last call is done, though not what it enqueued.
    fn wait(&self, call: &'static str, goes_on: &dyn Fn() -> bool) -> Result<(), NcclError> {
        let since = Instant::now();
        loop {
            match self.state()? {
                SUCCESS => return Ok(()),
                IN_PROGRESS if !goes_on() => return Err(NcclError::Stopped),
                IN_PROGRESS if since.elapsed() < BRISK => std::hint::spin_loop(),
                IN_PROGRESS => std::thread::sleep(Duration::from_micros(20)),
                code => return self.library.check(call, code),
            }
        }
    }

    fn state(&self) -> Result<c_int, NcclError> {
        let mut state = SUCCESS;
        // SAFETY: the communicator is there; the call writes one int.
        let code = unsafe { (self.library.functions.async_error)(self.handle, &mut state) };
        self.library.check("ncclCommGetAsyncError", code)?;
        Ok(state)
    }

    fn stream(&self, place: Place<'_>) -> Result<*mut std::ffi::c_void, NcclError> {
        self.device.bind()?;
        Ok(match place {
            Place::Device => self.device.raw_stream(),
            Place::Beside(stream) => {
                assert!(Arc::ptr_eq(stream.device(), &self.device), "a stream of another device");
                stream.raw()
            }
        })
    }

    fn own(&self, piece: &Piece) {
        assert!(Arc::ptr_eq(piece.device(), &self.device), "memory of another device");
    }
}

impl Drop for Communicator {
    fn drop(&mut self) {
        // Where the device is lost, so is what it has of the communicator.
        if !self.handle.is_null() && self.device.bind().is_ok() {
            // SAFETY: created once, aborted once: which also frees it.
            let _ = unsafe { (self.library.functions.abort)(self.handle) };
        }
    }
}

/// A number of ranks, as NCCL counts them.
fn int(count: usize) -> c_int {
    c_int::try_from(count).expect("ranks are few")
}
