//! The memory pool of a GPU. It keeps what is freed: a buffer costs microseconds once its size was
//! in use before.

#![allow(unsafe_code)]

use std::ffi::c_void;

use cudarc::driver::sys::{
    self as driver, CUdeviceptr, CUmemPool_attribute as PoolAttribute, CUresult, CUstream,
};

use super::device::Device;
use super::error::{CudaError, check};

impl Device {
    /// Bytes free for new buffers, those the pool holds unused included, and bytes in all.
    ///
    /// # Errors
    /// The driver's.
    pub fn memory(&self) -> Result<(usize, usize), CudaError> {
        self.bind()?;
        let (mut free, mut total) = (0usize, 0usize);
        let (mut reserved, mut used) = (0u64, 0u64);
        // SAFETY: the context is current; the calls write two usize and one u64 each.
        unsafe {
            check("cuMemGetInfo", driver::cuMemGetInfo_v2(&mut free, &mut total))?;
            for (attribute, value) in [
                (PoolAttribute::CU_MEMPOOL_ATTR_RESERVED_MEM_CURRENT, &mut reserved),
                (PoolAttribute::CU_MEMPOOL_ATTR_USED_MEM_CURRENT, &mut used),
            ] {
                let value: *mut c_void = (&raw mut *value).cast();
                check(
                    "cuMemPoolGetAttribute",
                    driver::cuMemPoolGetAttribute(self.pool, attribute, value),
                )?;
            }
        }
        Ok((free + reserved.saturating_sub(used) as usize, total))
    }

    /// The most bytes that buffers took at once since this was last called (or the device opened).
    ///
    /// # Errors
    /// The driver's.
    pub fn take_peak_memory(&self) -> Result<u64, CudaError> {
        self.bind()?;
        let (mut peak, mut zero) = (0u64, 0u64);
        let attribute = PoolAttribute::CU_MEMPOOL_ATTR_USED_MEM_HIGH;
        // SAFETY: the pool belongs to the device; the calls write and read a u64, as the attribute
        // asks for (0 resets it).
        unsafe {
            check(
                "cuMemPoolGetAttribute",
                driver::cuMemPoolGetAttribute(self.pool, attribute, (&raw mut peak).cast()),
            )?;
            check(
                "cuMemPoolSetAttribute",
                driver::cuMemPoolSetAttribute(self.pool, attribute, (&raw mut zero).cast()),
            )?;
        }
        Ok(peak)
    }

    /// Gives back to the driver what the pool keeps and nobody uses. Waits for all work.
    ///
    /// # Errors
    /// The driver's.
    pub(super) fn trim(&self) -> Result<(), CudaError> {
        self.synchronize()?;
        // SAFETY: the pool is the device's.
        check("cuMemPoolTrimTo", unsafe { driver::cuMemPoolTrimTo(self.pool, 0) })
    }

    /// `bytes` (more than 0) of memory, not initialised, and whether it belongs to a step that is
    /// being recorded. To be given to [`Self::free`] once.
    pub(super) fn allocate(&self, bytes: usize) -> Result<(CUdeviceptr, bool), CudaError> {
        let pointer = self.allocate_on(bytes, self.stream())?;
        Ok((pointer, self.recorder.with(|step| step.used.held += 1).is_some()))
    }

    /// As [`Self::allocate`], for a stream of this device that nobody records.
    pub(super) fn allocate_on(
        &self,
        bytes: usize,
        stream: CUstream,
    ) -> Result<CUdeviceptr, CudaError> {
        self.bind()?;
        let mut pointer = 0;
        // SAFETY: the context is current, the stream alive; the call writes the pointer.
        match unsafe { driver::cuMemAllocAsync(&mut pointer, bytes, stream) } {
            CUresult::CUDA_ERROR_OUT_OF_MEMORY => {
                let (free, total) = self.memory()?;
                Err(CudaError::OutOfMemory { bytes, free, total })
            }
            result => check("cuMemAllocAsync", result).map(|()| pointer),
        }
    }

    /// Gives memory back once the work enqueued so far is done with it.
    ///
    /// # Safety
    /// `pointer` and `of_step` came from [`Self::allocate`], and nothing enqueued later uses the
    /// memory.
    pub(super) unsafe fn free(&self, pointer: CUdeviceptr, of_step: bool) {
        // A failure means that the context is lost, and its memory with it: nothing to do.
        if self.bind().is_err() {
            return;
        }
        // What was there before a step is freed when it is dropped, not whenever the step runs.
        let stream = self.recorder.with(|step| {
            step.used.held = step.used.held.saturating_sub(usize::from(of_step));
            if of_step { step.stream } else { self.stream }
        });
        // SAFETY: by this function's contract.
        let _ = unsafe { driver::cuMemFreeAsync(pointer, stream.unwrap_or(self.stream)) };
    }
}
