//! Steps that are recorded once and replayed: one launch in place of hundreds.
//!
//! A recorded step keeps its arguments. What changes from one decoding step to the next is in
//! device memory: the token and its position, which embedding and rotation read, and how many
//! tokens later this is, which the kernels that append and attend add to what they were recorded
//! with.
//!
//! Replaying is safe: a recording owns a share of all memory that its kernels use, whatever becomes
//! of the buffers meanwhile, and knows for how many tokens there is room.

#![allow(unsafe_code)]

use super::error::check;
use super::recorder::Used;
use super::view::same_device;
use super::{Buffer, CudaError, Device};
use cudarc::driver::sys::{
    self as driver, CUgraph, CUgraphExec, CUresult, CUstream, CUstream_flags, CUstreamCaptureMode,
};
use std::ptr::null_mut;
use std::sync::Arc;

/// A recorded step.
pub struct Recording {
    device: Arc<Device>,
    _graph: Graph,
    executable: CUgraphExec,
    /// How many tokens later than recorded.
    later: Buffer<u32>,
    /// What it needs: kept until the executable is gone.
    used: Used,
}

// SAFETY: graphs belong to no thread; a recording is used by one at a time.
unsafe impl Send for Recording {}

struct Graph(CUgraph);

impl Drop for Graph {
    fn drop(&mut self) {
        if !self.0.is_null() {
            // SAFETY: created by the end of a capture, destroyed once.
            let _ = unsafe { driver::cuGraphDestroy(self.0) };
        }
    }
}

struct Stream(CUstream);

impl Drop for Stream {
    fn drop(&mut self) {
        if !self.0.is_null() {
            // SAFETY: created once, destroyed once; nothing runs on it.
            let _ = unsafe { driver::cuStreamDestroy_v2(self.0) };
        }
    }
}

impl Recording {
    /// Records what `step` enqueues from this thread, then runs it. Other threads go on as usual.
    pub(super) fn of<E: From<CudaError>>(
        device: &Arc<Device>,
        step: impl FnOnce() -> Result<(), E>,
    ) -> Result<Self, E> {
        let later = Buffer::zeros(device, 1)?;
        device.bind()?;
        let mut stream = Stream(null_mut());
        let flags = CUstream_flags::CU_STREAM_NON_BLOCKING as u32;
        let mode = CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL;
        // SAFETY: the context is current; the first call writes the stream, which the second uses.
        unsafe {
            check("cuStreamCreate", driver::cuStreamCreate(&mut stream.0, flags))?;
            check("cuStreamBeginCapture", driver::cuStreamBeginCapture_v2(stream.0, mode))?;
        }
        let (result, used) = device.recorder.record(stream.0, later.view().pointer, step);
        let mut graph = Graph(null_mut());
        // SAFETY: the capture began above; the call writes the graph, or null if it was broken off.
        let ended = unsafe { driver::cuStreamEndCapture(stream.0, &mut graph.0) };
        result?;
        check("cuStreamEndCapture", ended)?;
        if !used.is_closed() {
            let what = "a recorded step that keeps memory which it took".into();
            return Err(CudaError::Unsupported { what }.into());
        }
        let mut executable = null_mut();
        // SAFETY: the graph is whole; the call writes the executable.
        check("cuGraphInstantiate", unsafe {
            driver::cuGraphInstantiateWithFlags(&mut executable, graph.0, 0)
        })?;
        let recording = Self { device: Arc::clone(device), _graph: graph, executable, later, used };
        recording.launch()?;
        Ok(recording)
    }

    /// Whether every buffer has room for so many tokens more, and nothing would be divided
    /// otherwise for them.
    pub(super) fn can_replay(&self, later: u32) -> bool {
        later <= self.used.most_later
    }

    /// Runs the step as if it stood `later` tokens later.
    ///
    /// # Errors
    /// [`CudaError::OtherDevice`] if it was recorded on another; [`CudaError::Later`] if a buffer
    /// has no room for so many tokens more; the driver's.
    pub(super) fn replay(&mut self, device: &Arc<Device>, later: u32) -> Result<(), CudaError> {
        same_device("the recording", device, &self.device)?;
        if !self.can_replay(later) {
            return Err(CudaError::Later { later, most: self.used.most_later });
        }
        self.later.view_mut().fill(later)?;
        self.launch()
    }

    fn launch(&self) -> Result<(), CudaError> {
        self.device.bind()?;
        // SAFETY: the executable lives as long as `self`, and so does the memory it uses; there is
        // room for as many tokens as `later` says. The kernels are the backend's, which outlives
        // the call: it alone opened this device.
        let launch = || unsafe { driver::cuGraphLaunch(self.executable, self.device.stream()) };
        let mut launched = launch();
        if launched == CUresult::CUDA_ERROR_OUT_OF_MEMORY {
            // Memory that a recorded step takes while it runs cannot come from what the pool keeps.
            self.device.trim()?;
            launched = launch();
        }
        check("cuGraphLaunch", launched)
    }
}

impl Drop for Recording {
    fn drop(&mut self) {
        // What was launched may still run.
        if self.device.synchronize().is_ok() {
            // SAFETY: created once, destroyed once.
            let _ = unsafe { driver::cuGraphExecDestroy(self.executable) };
        }
    }
}
