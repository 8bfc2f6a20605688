//! Attention over whole blocks, by cuDNN: fused, in bf16 with sums in f32, and with the logarithms
//! of the sums that partial attentions are merged by.

#![allow(unsafe_code)]

mod attention;
mod descriptor;
mod graph;
mod plan;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::ffi::c_void;
use std::ptr::null_mut;
use std::sync::{Arc, Mutex, PoisonError};

use cudarc::cudnn::sys::{self as cudnn, cudnnHandle_t};
use half::bf16;

use super::buffer::Buffer;
use super::device::Device;
use super::error::CudaError;
use super::libraries;
use super::module::{Function, Module};
use super::view::{View, ViewMut, same_device, same_length};
use crate::HeadShape;
use descriptor::check;
use plan::Plan;

/// Plans kept: each holds a compiled kernel.
const MAX_PLANS: usize = 128;

/// Bytes that the addresses cuDNN is given are multiples of.
const ALIGNMENT: i64 = 16;
/// Threads of a block of the transposing kernel.
const THREADS: u32 = 256;
/// cuDNN writes the logarithms head after head; everything here keeps a token's heads together.
const TRANSPOSE: &str = r#"
extern "C" __global__ void transpose(float *lse, const float *stats, unsigned tokens,
                                     unsigned heads) {
    unsigned i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < tokens * heads) lse[i] = stats[(i % heads) * (size_t)tokens + i / heads];
}
"#;

/// An attention to compute.
///
/// cuDNN compiles a plan for the shapes of its tensors, and plans are kept. With cuDNN 9.14 on the
/// host of an H100 a plan takes 60 to 90 ms, the first of its kind 0.9 s: it is for lengths that
/// recur.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Attention {
    /// The heads of `q`, and of `k` and `v`.
    pub shape: HeadShape,
    /// Queries.
    pub tokens: usize,
    /// Keys.
    pub keys: usize,
    /// What scores are multiplied by: `1 / sqrt(head_dim)` as a rule.
    pub scale: f32,
    /// Whether query `i` sees only the keys up to `i + keys - tokens`: the last query sees all.
    pub causal: bool,
}

/// The attentions of one device. Any number of threads may use it; they take turns to enqueue.
pub struct Cudnn {
    device: Arc<Device>,
    transpose: Function,
    state: Mutex<State>,
}

/// What a run needs for itself alone while it is enqueued.
struct State {
    // Before the handle, which plans refer to.
    plans: HashMap<Key, Plan>,
    /// cuDNN's working memory, which one run after the other writes.
    workspace: Buffer<u8>,
    /// The logarithms as cuDNN writes them: `[heads, tokens]`.
    stats: Buffer<f32>,
    handle: Handle,
}

/// What a plan is made for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Key {
    tokens: usize,
    keys: usize,
    shape: HeadShape,
    causal: bool,
}

/// Tensors that are given memory when a plan runs; the numbers tell them apart.
#[derive(Clone, Copy)]
enum Bound {
    Q = 1,
    K,
    V,
    Out,
    Stats,
    Scale,
    Masked,
    Tokens,
    Keys,
}

struct Handle(cudnnHandle_t);

// SAFETY: the handle and the descriptors belong to no thread, and are used under the lock only.
unsafe impl Send for State {}

impl Drop for Handle {
    fn drop(&mut self) {
        // SAFETY: created once, destroyed once.
        let _ = unsafe { cudnn::cudnnDestroy(self.0) };
    }
}

impl Cudnn {
    /// Loads cuDNN for `device`.
    ///
    /// # Errors
    /// [`CudaError::Missing`] without cuDNN 9.10 or newer, or without what it needs; a failed call.
    pub fn new(device: &Arc<Device>) -> Result<Self, CudaError> {
        libraries::cudnn()?;
        device.bind()?;
        let mut handle = null_mut();
        // SAFETY: the library is loaded and the device's context current; the call writes a handle.
        check("cudnnCreate", unsafe { cudnn::cudnnCreate(&mut handle) })?;
        let handle = Handle(handle);
        // SAFETY: the handle was just created; the stream lives as long as the device.
        check("cudnnSetStream", unsafe {
            cudnn::cudnnSetStream(handle.0, device.stream().cast())
        })?;
        let transpose = Module::compile(device, "transpose", TRANSPOSE, &[])?;
        let state = State {
            plans: HashMap::new(),
            workspace: Buffer::uninit(device, 0)?,
            stats: Buffer::uninit(device, 0)?,
            handle,
        };
        Ok(Self {
            device: device.clone(),
            transpose: transpose.function(c"transpose")?,
            state: Mutex::new(state),
        })
    }

    /// Computes `attention`. Does not wait for it, but for its plan if it needs a new one.
    ///
    /// * `q` and `out`: `[tokens, heads, head_dim]`; `k` and `v`: `[keys, kv_heads, head_dim]`
    /// * `lse`: `[tokens, heads]`, the natural logarithms of the sums of `exp(scale q k)`
    ///
    /// # Errors
    /// [`CudaError::Length`] and [`CudaError::OtherDevice`] for views that do not fit;
    /// [`CudaError::Unsupported`] for shapes cuDNN has no kernel for, for addresses that are not
    /// multiples of 16, for no keys, for a causal mask over fewer keys than queries, where some
    /// queries would see none, and in a step that is recorded: its plan may be gone when that is
    /// replayed; a failed call.
    pub fn attend(
        &self,
        attention: &Attention,
        q: View<'_, bf16>,
        k: View<'_, bf16>,
        v: View<'_, bf16>,
        out: ViewMut<'_, bf16>,
        lse: ViewMut<'_, f32>,
    ) -> Result<(), CudaError> {
        let Attention { tokens, keys, .. } = *attention;
        if tokens == 0 {
            return Ok(());
        }
        let key = self.key(attention, &q, &k, &v, &out, &lse)?;
        self.device.not_recording("cuDNN's attention")?;
        self.device.bind()?;
        // A panic elsewhere leaves buffers and plans whole.
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let state = &mut *state;
        if state.plans.len() == MAX_PLANS && !state.plans.contains_key(&key) {
            // Their kernels may still run.
            self.device.synchronize()?;
            state.plans.clear();
        }
        let plan = match state.plans.entry(key) {
            Entry::Occupied(plan) => plan.into_mut(),
            Entry::Vacant(place) => place.insert(Plan::new(state.handle.0, key)?),
        };
        grow(&mut state.workspace, plan.workspace)?;
        grow(&mut state.stats, key.shape.heads * tokens)?;

        let mut lengths = [tokens as i32, keys as i32];
        let (mut scale, mut masked) = (attention.scale, f32::NEG_INFINITY);
        let device = |pointer: u64| pointer as *mut c_void;
        let mut bound = vec![
            (Bound::Q, device(q.pointer)),
            (Bound::K, device(k.pointer)),
            (Bound::V, device(v.pointer)),
            (Bound::Out, device(out.pointer)),
            (Bound::Stats, device(state.stats.view().pointer)),
            (Bound::Scale, (&raw mut scale).cast()),
        ];
        if key.causal {
            bound.push((Bound::Masked, (&raw mut masked).cast()));
            let [tokens, keys] = &mut lengths;
            bound.push((Bound::Tokens, (&raw mut *tokens).cast()));
            bound.push((Bound::Keys, (&raw mut *keys).cast()));
        }
        // SAFETY: the views are as long as the key says; the numbers on the host are read
        // before the call returns; the workspace is large enough.
        unsafe {
            plan.execute(state.handle.0, &bound, device(state.workspace.view().pointer))?;
        }

        let (tokens, heads) = (tokens as u32, key.shape.heads as u32);
        let total = tokens * heads;
        // SAFETY: the kernel's parameters in order; it writes `total` elements and reads inside
        // `[heads, tokens]`.
        unsafe {
            self.transpose.launch(
                [total.div_ceil(THREADS), 1, 1],
                [THREADS, 1, 1],
                0,
                &[&lse, &state.stats.view(), &tokens, &heads],
            )
        }
    }

    /// What the plan of `attention` is made for; checks that the views fit it.
    fn key(
        &self,
        attention: &Attention,
        q: &View<'_, bf16>,
        k: &View<'_, bf16>,
        v: &View<'_, bf16>,
        out: &ViewMut<'_, bf16>,
        lse: &ViewMut<'_, f32>,
    ) -> Result<Key, CudaError> {
        let Attention { shape, tokens, keys, causal, .. } = *attention;
        let HeadShape { heads, kv_heads, head_dim } = shape;
        same_length("the queries", tokens * heads * head_dim, q.len())?;
        same_length("the output", tokens * heads * head_dim, out.len())?;
        same_length("the keys", keys * kv_heads * head_dim, k.len())?;
        same_length("the values", keys * kv_heads * head_dim, v.len())?;
        same_length("the logarithms", tokens * heads, lse.len())?;
        same_device("the queries", &self.device, q.device())?;
        same_device("the keys", &self.device, k.device())?;
        same_device("the values", &self.device, v.device())?;
        same_device("the output", &self.device, out.device())?;
        same_device("the logarithms", &self.device, lse.device())?;
        // A single query sees all keys either way, and cuDNN is faster without a mask.
        let causal = causal && tokens > 1;
        if keys == 0 || (causal && keys < tokens) {
            let what = format!("attention of {tokens} queries, some of which see no key");
            return Err(CudaError::Unsupported { what });
        }
        let addresses = q.pointer | k.pointer | v.pointer | out.pointer;
        if !addresses.is_multiple_of(ALIGNMENT as u64) {
            let what = format!("attention at addresses that are not multiples of {ALIGNMENT}");
            return Err(CudaError::Unsupported { what });
        }
        Ok(Key { tokens, keys, shape, causal })
    }
}

impl Drop for Cudnn {
    fn drop(&mut self) {
        // Makes the device current for what is destroyed, and waits for kernels that still run. If
        // it fails the context is lost, and all in it.
        let _ = self.device.synchronize();
    }
}

/// Makes `buffer` at least `len` elements long; what it held is lost. The old one is freed behind
/// the work enqueued so far.
fn grow<T: super::Element>(buffer: &mut Buffer<T>, len: usize) -> Result<(), CudaError> {
    if buffer.len() < len {
        *buffer = Buffer::uninit(buffer.device(), len)?;
    }
    Ok(())
}
