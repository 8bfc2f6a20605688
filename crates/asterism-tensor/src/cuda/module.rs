//! Kernels of our own: compiled for the device while the program runs, loaded and launched.

#![allow(unsafe_code)]

use std::ffi::{CStr, CString, c_void};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use cudarc::driver::sys::{
    self as driver, CUfunction, CUfunction_attribute as FunctionAttribute, CUlaunchAttribute,
    CUlaunchAttributeID, CUlaunchAttributeValue, CUlaunchConfig, CUmodule,
};
use cudarc::nvrtc::sys::{self as nvrtc, nvrtcProgram, nvrtcResult};

use super::allocation::Allocation;
use super::device::Device;
use super::error::{CudaError, check};
use super::kernel_cache::KernelCache;
use super::libraries;
use super::view::{Element, View, ViewMut};

/// Shared memory any kernel may use without asking.
const SHARED_MEMORY_UNASKED: u32 = 48 << 10;

/// NVRTC loads a second library when it first compiles, and fails if two threads get there at once.
static NVRTC_IN_USE: Mutex<()> = Mutex::new(());

/// Compiles CUDA C++ to machine code for `arch` (such as `sm_90a`). Needs NVRTC, but no GPU.
///
/// `name` stands for the source in messages; `options` are the compiler's, `-DTILE=64` for one.
///
/// # Errors
/// [`CudaError::Missing`] without NVRTC; [`CudaError::Compile`] with the compiler's log.
pub fn compile(
    name: &str,
    source: &str,
    arch: &str,
    options: &[&str],
) -> Result<Vec<u8>, CudaError> {
    compile_with_log(name, source, arch, options).map(|(code, _)| code)
}

/// As [`compile`], with what the compiler had to say.
pub(super) fn compile_with_log(
    name: &str,
    source: &str,
    arch: &str,
    options: &[&str],
) -> Result<(Vec<u8>, String), CudaError> {
    libraries::nvrtc()?;
    let _alone = NVRTC_IN_USE.lock().unwrap_or_else(PoisonError::into_inner);
    let failed = |log: String| CudaError::Compile { name: name.into(), arch: arch.into(), log };
    let text = |text: &str| CString::new(text).map_err(|_| failed("a zero byte".into()));
    let (source, title) = (text(source)?, text(name)?);
    let mut arguments = vec![text(&format!("--gpu-architecture={arch}"))?, text("-std=c++17")?];
    for option in options {
        arguments.push(text(option)?);
    }
    let arguments: Vec<_> = arguments.iter().map(|argument| argument.as_ptr()).collect();

    let mut program = Program(std::ptr::null_mut());
    // SAFETY: NVRTC is loaded; strings end in a zero and outlive the calls; there are no headers.
    compiled("nvrtcCreateProgram", unsafe {
        let (no_headers, no_names) = (std::ptr::null(), std::ptr::null());
        let (source, title) = (source.as_ptr(), title.as_ptr());
        nvrtc::nvrtcCreateProgram(&mut program.0, source, title, 0, no_headers, no_names)
    })?;
    // SAFETY: the program was just created; the arguments are as many strings as said.
    let result = unsafe {
        nvrtc::nvrtcCompileProgram(program.0, arguments.len() as i32, arguments.as_ptr())
    };
    if result == nvrtcResult::NVRTC_ERROR_COMPILATION {
        return Err(failed(program.log()));
    }
    compiled("nvrtcCompileProgram", result)?;

    let mut size = 0;
    // SAFETY: compiled for a real architecture, so there is machine code, of `size` bytes.
    unsafe {
        compiled("nvrtcGetCUBINSize", nvrtc::nvrtcGetCUBINSize(program.0, &mut size))?;
        let mut code = vec![0u8; size];
        let result = nvrtc::nvrtcGetCUBIN(program.0, code.as_mut_ptr().cast());
        compiled("nvrtcGetCUBIN", result).map(|()| (code, program.log()))
    }
}

struct Program(nvrtcProgram);

impl Program {
    fn log(&self) -> String {
        let mut size = 0;
        // SAFETY: the program exists; the second call writes `size` bytes, the last one a zero.
        unsafe {
            if nvrtc::nvrtcGetProgramLogSize(self.0, &mut size) != nvrtcResult::NVRTC_SUCCESS {
                return "the compiler kept no log".into();
            }
            let mut log = vec![0u8; size];
            let _ = nvrtc::nvrtcGetProgramLog(self.0, log.as_mut_ptr().cast());
            String::from_utf8_lossy(&log).trim_end_matches('\0').trim_end().to_string()
        }
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        if !self.0.is_null() {
            // SAFETY: created once, destroyed once.
            let _ = unsafe { nvrtc::nvrtcDestroyProgram(&mut self.0) };
        }
    }
}

/// The result of `call`, a function of NVRTC.
fn compiled(call: &'static str, result: nvrtcResult) -> Result<(), CudaError> {
    if result == nvrtcResult::NVRTC_SUCCESS {
        return Ok(());
    }
    // SAFETY: NVRTC is loaded; it returns a static string for any code.
    let text = unsafe { CStr::from_ptr(nvrtc::nvrtcGetErrorString(result)) };
    Err(CudaError::Call { call, code: result as i32, text: text.to_string_lossy().into() })
}

/// Kernels, loaded on a device.
pub struct Module {
    device: Arc<Device>,
    handle: CUmodule,
}

// SAFETY: a module may be used from any thread; it never changes.
unsafe impl Send for Module {}
// SAFETY: as above.
unsafe impl Sync for Module {}

impl Module {
    /// Compiles `source` for the device (see [`compile`]), if an earlier run did not, and loads it.
    ///
    /// # Errors
    /// As [`compile`]; the driver's.
    pub fn compile(
        device: &Arc<Device>,
        name: &str,
        source: &str,
        options: &[&str],
    ) -> Result<Arc<Self>, CudaError> {
        let (arch, compiler) =
            (device.properties().arch(), libraries::nvrtc()?.version.to_string());
        let key = [&[compiler.as_str(), &arch, source], options].concat();
        let code = KernelCache::of_user().get(&key, || compile(name, source, &arch, options))?;
        device.bind()?;
        let mut module = Self { device: device.clone(), handle: std::ptr::null_mut() };
        // SAFETY: the context is current; the code is a whole image as NVRTC wrote it.
        check("cuModuleLoadData", unsafe {
            driver::cuModuleLoadData(&mut module.handle, code.as_ptr().cast())
        })?;
        Ok(Arc::new(module))
    }

    /// The kernel `name`, declared `extern "C"`.
    ///
    /// # Errors
    /// The driver's, if there is none of this name.
    pub fn function(self: &Arc<Self>, name: &CStr) -> Result<Function, CudaError> {
        self.device.bind()?;
        let mut handle = std::ptr::null_mut();
        // SAFETY: the module is loaded, the name ends in a zero.
        check("cuModuleGetFunction", unsafe {
            driver::cuModuleGetFunction(&mut handle, self.handle, name.as_ptr())
        })?;
        let shared = AtomicU32::new(SHARED_MEMORY_UNASKED);
        Ok(Function { module: self.clone(), handle, shared })
    }
}

impl Drop for Module {
    fn drop(&mut self) {
        // Unloading does not wait for kernels that run.
        if !self.handle.is_null() && self.device.synchronize().is_ok() {
            // SAFETY: loaded once, unloaded once; functions own their module.
            let _ = unsafe { driver::cuModuleUnload(self.handle) };
        }
    }
}

/// A kernel.
pub struct Function {
    module: Arc<Module>,
    handle: CUfunction,
    /// Bytes of dynamic shared memory the driver was told to allow so far.
    shared: AtomicU32,
}

// SAFETY: a function may be launched from any thread; allowing it more shared memory twice is
// allowing it once.
unsafe impl Send for Function {}
// SAFETY: as above.
unsafe impl Sync for Function {}

impl Clone for Function {
    fn clone(&self) -> Self {
        let shared = AtomicU32::new(self.shared.load(Ordering::Relaxed));
        Self { module: Arc::clone(&self.module), handle: self.handle, shared }
    }
}

impl Function {
    /// The device it runs on.
    pub fn device(&self) -> &Arc<Device> {
        &self.module.device
    }

    /// Enqueues the kernel: `grid` blocks (x, y, z) of `block` threads, each block with `shared`
    /// bytes of dynamic shared memory. A grid without blocks does nothing.
    ///
    /// # Errors
    /// The driver's, for a launch that is not possible. What goes wrong while the kernel runs shows
    /// at the next call that waits.
    ///
    /// # Safety
    /// `arguments` are as many as the kernel's parameters and of their types, and with them the
    /// kernel stays inside the views it is given.
    pub unsafe fn launch(
        &self,
        grid: [u32; 3],
        block: [u32; 3],
        shared: u32,
        arguments: &[&dyn Argument],
    ) -> Result<(), CudaError> {
        // SAFETY: the caller's promise.
        unsafe { self.enqueue(grid, block, shared, arguments, false) }
    }

    /// As [`Function::launch`], but where the GPU can (from Hopper on) its blocks may start while
    /// the kernel before still runs, once all of that one's have started and let them or have ended
    /// (programmatic dependent launch).
    ///
    /// # Errors
    /// As [`Function::launch`].
    ///
    /// # Safety
    /// As [`Function::launch`]; and every thread of the kernel executes `griddepcontrol.wait`
    /// before it reads what an earlier kernel writes and before it writes anything.
    pub unsafe fn launch_early(
        &self,
        grid: [u32; 3],
        block: [u32; 3],
        shared: u32,
        arguments: &[&dyn Argument],
    ) -> Result<(), CudaError> {
        let early = self.device().properties().capability >= (9, 0);
        // SAFETY: the caller's promise.
        unsafe { self.enqueue(grid, block, shared, arguments, early) }
    }

    /// # Safety
    /// As [`Function::launch`]; as [`Function::launch_early`] if `early`.
    unsafe fn enqueue(
        &self,
        grid: [u32; 3],
        block: [u32; 3],
        shared: u32,
        arguments: &[&dyn Argument],
        early: bool,
    ) -> Result<(), CudaError> {
        if grid.contains(&0) {
            return Ok(());
        }
        let device = self.device();
        device.bind()?;
        if shared > self.shared.load(Ordering::Relaxed) {
            let attribute = FunctionAttribute::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES;
            // SAFETY: the function's module is loaded.
            check("cuFuncSetAttribute", unsafe {
                driver::cuFuncSetAttribute(self.handle, attribute, shared as i32)
            })?;
            self.shared.fetch_max(shared, Ordering::Relaxed);
        }
        device.keep(arguments.iter().filter_map(|argument| argument.memory()));
        let mut arguments: Vec<_> = arguments.iter().map(|argument| argument.address()).collect();
        let mut start_early = CUlaunchAttribute {
            id: CUlaunchAttributeID::CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_STREAM_SERIALIZATION,
            pad: [0; 4],
            value: CUlaunchAttributeValue { programmaticStreamSerializationAllowed: 1 },
        };
        let config = CUlaunchConfig {
            gridDimX: grid[0],
            gridDimY: grid[1],
            gridDimZ: grid[2],
            blockDimX: block[0],
            blockDimY: block[1],
            blockDimZ: block[2],
            sharedMemBytes: shared,
            hStream: device.stream(),
            attrs: &raw mut start_early,
            numAttrs: u32::from(early),
        };
        // SAFETY: the driver copies each argument, by the kernel's own sizes, and the attributes
        // before it returns; the rest is the caller's promise.
        check("cuLaunchKernelEx", unsafe {
            let (arguments, no_others) = (arguments.as_mut_ptr(), std::ptr::null_mut());
            driver::cuLaunchKernelEx(&raw const config, self.handle, arguments, no_others)
        })
    }
}

/// A value a kernel takes: a number, or a view as the pointer to its first element.
///
/// # Safety
/// The address holds what a kernel's parameter of that type reads, for as long as `self` lives.
pub unsafe trait Argument {
    /// Where the value lies on the host.
    fn address(&self) -> *mut c_void;

    /// The memory that a pointer points into: what a recorded launch must keep.
    #[doc(hidden)]
    fn memory(&self) -> Option<&Arc<Allocation>> {
        None
    }
}

macro_rules! arguments {
    ($($type:ty),*) => {$(
        // SAFETY: the kernel's parameter is this very number.
        unsafe impl Argument for $type {
            fn address(&self) -> *mut c_void {
                (&raw const *self).cast_mut().cast()
            }
        }
    )*};
}
arguments!(u32, i32, u64, i64, f32);

// SAFETY: the kernel's parameter is the pointer, 8 bytes on host and device.
unsafe impl<T: Element> Argument for View<'_, T> {
    fn address(&self) -> *mut c_void {
        (&raw const self.pointer).cast_mut().cast()
    }

    fn memory(&self) -> Option<&Arc<Allocation>> {
        Some(self.memory)
    }
}

// SAFETY: as above.
unsafe impl<T: Element> Argument for ViewMut<'_, T> {
    fn address(&self) -> *mut c_void {
        (&raw const self.pointer).cast_mut().cast()
    }

    fn memory(&self) -> Option<&Arc<Allocation>> {
        Some(self.memory)
    }
}

/// The view as an argument, or a null pointer.
pub(super) fn or_null<'a, T: Element>(view: &'a Option<View<'_, T>>) -> &'a dyn Argument {
    match view {
        Some(view) => view,
        None => &0u64,
    }
}
