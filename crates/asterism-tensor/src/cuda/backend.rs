//! A GPU as a [`Backend`]: activations in bf16, the residual stream and all sums in f32. Operations
//! are enqueued on the device's stream and return at once; what reads results waits.

use super::cudnn::Cudnn;
use super::error::only_bf16;
use super::flash::Flash;
use super::gemv::{Gemv, MOST_ROWS, Sizes};
use super::kv::Kv;
use super::memory::{Grown, Ids, view, view_mut};
use super::queries::{Kept, Listed, Places, Queries};
use super::rows::{RowChoice, RowKernels};
use super::sparse::SparseKernels;
use super::staging::Staging;
use super::statistics::Statistics;
use super::weights::{Embedding, Matrix};
use super::{Buffer, CudaError, Device, Element, Event, Gemm, Recording, View, ViewMut};
use crate::{
    Backend, Choice, ElementsView, Grain, HeadShape, KeptKeys, KvBytes, KvPrecision, LayerWidths,
    MassOver, Memory, Part, PartMut, Pass, Peak, Precision, Rotation, RowReader, Sequence, Slab,
    SplitQkv, TensorError, TileMask,
};
use half::bf16;
use half::slice::HalfFloatSliceExt;
use std::collections::HashMap;
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Rows that pass through the linear layers together: far more than fill the GPU.
const LINEAR_ROWS: usize = 8192;

/// Tokens of one forward pass: long enough that cuDNN's attention runs at full speed.
const CHUNK_TOKENS: usize = 16384;

type Result<T = ()> = std::result::Result<T, TensorError>;

/// Kernels by the size of heads that they are for, compiled when first asked for.
pub(super) struct BySize<T>(Mutex<HashMap<usize, Arc<T>>>);

impl<T> Default for BySize<T> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<T> BySize<T> {
    /// Those for heads of `head_dim` elements, which `compile` makes if there are none.
    pub(super) fn of(
        &self,
        head_dim: usize,
        compile: impl FnOnce() -> std::result::Result<T, CudaError>,
    ) -> std::result::Result<Arc<T>, CudaError> {
        let mut compiled = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(kernels) = compiled.get(&head_dim) {
            return Ok(Arc::clone(kernels));
        }
        let kernels = Arc::new(compile()?);
        compiled.insert(head_dim, Arc::clone(&kernels));
        Ok(kernels)
    }

    /// Those for heads of any size, if there are some.
    pub(super) fn any(&self) -> Option<Arc<T>> {
        let compiled = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        compiled.values().next().cloned()
    }
}

/// A GPU, its libraries and our kernels.
pub struct Cuda {
    pub(super) device: Arc<Device>,
    /// Products of many rows.
    pub(super) gemm: Gemm,
    /// Products of few.
    gemv: Gemv,
    pub(super) rows: RowKernels,
    /// Our attention, one per size of heads.
    flash: BySize<Flash>,
    /// The same over some tiles of keys, compiled when first needed.
    pub(super) sparse: BySize<SparseKernels>,
    /// What queries and keys are like, compiled when first needed.
    pub(super) statistics: BySize<Statistics>,
    /// For weights, from the first on.
    staging: Mutex<Option<Staging>>,
    /// Attention of whole blocks; our own does it where cuDNN is missing.
    pub(super) cudnn: Option<Cudnn>,
    /// Why cuDNN is missing.
    without_cudnn: Option<String>,
}

impl Cuda {
    /// Opens GPU `ordinal` and compiles our kernels for it.
    ///
    /// # Errors
    /// If the driver, the GPU, NVRTC or cuBLASLt is missing or fails. cuDNN may be missing:
    /// [`Cuda::without_cudnn`] says why.
    pub fn open(ordinal: usize) -> std::result::Result<Self, CudaError> {
        let device = Device::open(ordinal)?;
        let (cudnn, without_cudnn) = match Cudnn::new(&device) {
            Ok(cudnn) => (Some(cudnn), None),
            Err(error) => (None, Some(error.to_string())),
        };
        let (gemm, gemv) = (Gemm::new(&device)?, Gemv::compile(&device)?);
        let rows = RowKernels::compile(&device)?;
        Ok(Self {
            device,
            gemm,
            gemv,
            rows,
            flash: BySize::default(),
            sparse: BySize::default(),
            statistics: BySize::default(),
            staging: Mutex::default(),
            cudnn,
            without_cudnn,
        })
    }

    /// The GPU.
    #[must_use]
    pub fn device(&self) -> &Arc<Device> {
        &self.device
    }

    /// Why attention of whole blocks runs on our own kernel, if it does.
    #[must_use]
    pub fn without_cudnn(&self) -> Option<&str> {
        self.without_cudnn.as_deref()
    }

    /// `y += x · Wᵀ (+ bias)`.
    fn add_product(
        &self,
        x: View<'_, bf16>,
        w: &Matrix,
        bias: Option<&Buffer<f32>>,
        shape: (usize, usize, usize),
        pass: Pass,
        mut y: ViewMut<'_, f32>,
    ) -> std::result::Result<(), CudaError> {
        if is_few(pass, shape.0) {
            return self.gemv.add(x, w.weights.view(), bias.map(Buffer::view), shape, y);
        }
        self.gemm.accumulate(x, w.weights.view(), shape, y.reborrow())?;
        bias.map_or(Ok(()), |bias| self.rows.add_bias_f32(y, bias.view()))
    }

    /// What a product by no inputs gives.
    fn no_product(
        &self,
        bias: Option<View<'_, f32>>,
        mut y: ViewMut<'_, f32>,
    ) -> std::result::Result<(), CudaError> {
        y.fill_bytes(0)?;
        bias.map_or(Ok(()), |bias| self.rows.add_bias_f32(y, bias))
    }

    /// Uploads weights.
    pub(super) fn upload<T: Element>(
        &self,
        to: ViewMut<'_, T>,
        from: &[T],
    ) -> std::result::Result<(), CudaError> {
        let mut staging = self.staging.lock().unwrap_or_else(PoisonError::into_inner);
        match &mut *staging {
            Some(staging) => staging.upload(to, from),
            none => none.insert(Staging::new(&self.device)?).upload(to, from),
        }
    }

    /// Our attention for heads of `head_dim` elements, compiled when first asked for.
    pub(super) fn flash(&self, head_dim: usize) -> std::result::Result<Arc<Flash>, CudaError> {
        self.flash.of(head_dim, || Flash::compile(&self.device, &self.rows, head_dim))
    }
}

/// Whether rows are multiplied by the kernels that read weights once for each few of them: cuBLASLt
/// chooses another algorithm, and another order of sums, for other numbers of rows.
fn is_few(pass: Pass, rows: usize) -> bool {
    pass == Pass::Decode || rows <= MOST_ROWS
}

/// What goes into a linear layer: `[rows, inputs]`.
pub struct Activations {
    values: Grown<bf16>,
    rows: usize,
    inputs: usize,
    pass: Pass,
}

impl Activations {
    /// Makes room for `rows` rows and gives them to be written.
    fn reset(
        &mut self,
        device: &Arc<Device>,
        rows: usize,
        inputs: usize,
    ) -> std::result::Result<ViewMut<'_, bf16>, CudaError> {
        (self.rows, self.inputs) = (rows, inputs);
        self.values.first(device, rows * inputs)
    }

    fn view(&self) -> std::result::Result<View<'_, bf16>, CudaError> {
        view(Part::new(&self.values, 0..self.rows * self.inputs))
    }

    /// Rows, inputs and outputs of a product with `w`.
    fn shape(&self, w: &Matrix) -> (usize, usize, usize) {
        (self.rows, self.inputs, w.outputs)
    }
}

impl Backend for Cuda {
    const ROWS: Precision = Precision::Bf16;

    /// 8.2 microseconds in a recorded step, in which an H200 reads weights at 4.4 TB/s.
    const EXCHANGE_BYTES: u64 = 36_000_000;

    type Rows = Grown<bf16>;
    type Sums = Grown<f32>;
    type Kv = Kv;
    type Activations = Activations;
    type Ids = Ids;
    type Flags = Buffer<u8>;
    type Kept = Kept;
    type Listed = Listed;
    type Recording = Recording;
    type Matrix = Matrix;
    type Mark = Event;
    type Vector = Buffer<f32>;
    type Embedding = Embedding;

    fn describe(&self) -> String {
        let attention = if self.cudnn.is_some() { "cuDNN" } else { "own attention kernels" };
        format!("{}, {attention}", self.device.properties().name)
    }

    fn chunk_tokens(&self) -> usize {
        CHUNK_TOKENS
    }

    fn linear_rows(&self) -> usize {
        LINEAR_ROWS
    }

    fn most_chunk_tokens() -> usize {
        CHUNK_TOKENS
    }

    fn pass_bytes(widths: LayerWidths, tokens: usize) -> u64 {
        let LayerWidths { hidden, intermediate, vocab, shape } = widths;
        let (rows, q) = (LINEAR_ROWS.min(tokens), shape.q_width());
        // f32: residual stream, angles, log-sum-exps and logits; the rest bf16: queries, outputs,
        // keys and values; of rows in a layer, those as projected, inputs, and gate, up and both.
        let floats = tokens * (hidden + shape.head_dim + shape.heads) + vocab;
        let narrow = tokens * 2 * (q + shape.kv_width())
            + rows * (shape.qkv_width() + hidden.max(q) + 3 * intermediate);
        (4 * floats + 2 * narrow) as u64
    }

    fn shares_memory() -> bool {
        // The pool keeps what is freed: to the driver it is in use.
        false
    }

    fn free_memory(&self) -> Result<Option<u64>> {
        Ok(Some(self.device.memory()?.0 as u64))
    }

    fn take_peak_memory(&self) -> Result<Option<u64>> {
        Ok(Some(self.device.take_peak_memory()?))
    }

    fn peak(&self, precision: Precision) -> Result<Peak> {
        if precision != Precision::Bf16 {
            return Err(only_bf16().into());
        }
        Ok(super::peak::measure(&self.device, &self.gemm)?)
    }

    fn mark(&self) -> Result<Event> {
        Ok(Event::record(&self.device)?)
    }

    fn between(&self, start: &Event, end: &Event) -> Result<Duration> {
        Ok(start.until(end)?)
    }

    fn synchronize(&self) -> Result {
        Ok(self.device.synchronize()?)
    }

    fn matrix(&self, parts: &[ElementsView<'_>], inputs: usize) -> Result<Matrix> {
        Ok(Matrix::stack(self, parts, inputs)?)
    }

    fn pair(&self, gate: ElementsView<'_>, up: ElementsView<'_>, inputs: usize) -> Result<Matrix> {
        Ok(Matrix::stack(self, &[gate, up], inputs)?)
    }

    fn vector(&self, values: &[f32]) -> Result<Buffer<f32>> {
        Ok(Buffer::from_slice(&self.device, values)?)
    }

    fn embedding(&self, rows: RowReader, vocab: usize, hidden: usize) -> Result<Embedding> {
        Ok(Embedding::upload(self, &rows, vocab, hidden)?)
    }

    fn activations(&self, _precision: Precision, pass: Pass) -> Activations {
        Activations { values: Grown::default(), rows: 0, inputs: 0, pass }
    }

    fn rows_at_least(&self, rows: &mut Grown<bf16>, len: usize) -> Result {
        Ok(rows.at_least(&self.device, len)?)
    }

    fn sums_at_least(&self, sums: &mut Grown<f32>, len: usize) -> Result {
        Ok(sums.at_least(&self.device, len)?)
    }

    fn copy_rows(&self, rows: Part<'_, Grown<bf16>>) -> Result<Grown<bf16>> {
        let mut copy = Grown::default();
        if rows.len > 0 {
            copy.first(&self.device, rows.len)?.copy_from(view(rows)?)?;
        }
        Ok(copy)
    }

    fn put_rows(&self, rows: Part<'_, Grown<bf16>>, to: PartMut<'_, Grown<bf16>>) -> Result {
        Ok(view_mut(to)?.copy_from(view(rows)?)?)
    }

    fn put_sums(&self, sums: Part<'_, Grown<f32>>, to: PartMut<'_, Grown<f32>>) -> Result {
        Ok(view_mut(to)?.copy_from(view(sums)?)?)
    }

    fn read(&self, sums: Part<'_, Grown<f32>>, to: &mut [f32]) -> Result {
        Ok(view(sums)?.read(to)?)
    }

    fn read_rows(&self, rows: Part<'_, Grown<bf16>>, to: &mut [f32]) -> Result {
        let read = view(rows)?.to_vec()?;
        read.convert_to_f32_slice(to);
        Ok(())
    }

    fn tasks(&self, count: usize, task: &(dyn Fn(usize) + Sync)) {
        let threads = std::thread::available_parallelism().map_or(1, usize::from).min(count);
        let next = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for _ in 0..threads {
                scope.spawn(|| {
                    loop {
                        let number = next.fetch_add(1, Ordering::Relaxed);
                        if number >= count {
                            return;
                        }
                        task(number);
                    }
                });
            }
        });
    }

    fn kv(&self, precision: KvPrecision, shape: HeadShape, capacity: usize) -> Result<Kv> {
        Ok(Kv::with_capacity(&self.device, precision, shape, capacity)?)
    }

    fn append(&self, cached: [&mut Kv; 2], new: [Part<'_, Grown<bf16>>; 2]) -> Result {
        let [keys, values] = new;
        if keys.len == 0 {
            return Ok(());
        }
        Ok(Kv::append(&self.rows, cached, [view(keys)?, view(values)?])?)
    }

    fn extend(&self, kv: &mut Kv, other: Part<'_, Kv>) -> Result {
        Ok(kv.extend(other)?)
    }

    fn kv_bytes(&self, kv: Part<'_, Kv>) -> Result<KvBytes> {
        Ok(Kv::bytes_of(kv)?)
    }

    fn extend_bytes(&self, kv: &mut Kv, stored: &KvBytes) -> Result {
        Ok(kv.extend_bytes(stored)?)
    }

    fn truncate(&self, kv: &mut Kv, len: usize) {
        kv.truncate(len);
    }

    fn advance(&self, kv: &mut Kv, len: usize) -> bool {
        kv.advance(len)
    }

    fn set_ids(&self, ids: &mut Ids, tokens: &[u32], positions: &[u32]) -> Result {
        Ok(ids.set(&self.device, tokens, positions)?)
    }

    fn embed(&self, table: &Embedding, ids: &Ids, x: PartMut<'_, Grown<f32>>) -> Result {
        if ids.count == 0 {
            return Ok(());
        }
        let tokens = view(Part::new(&ids.tokens, 0..ids.count))?;
        Ok(self.rows.embed(table.table.view(), tokens, table.hidden, view_mut(x)?)?)
    }

    fn angles(&self, frequencies: &Buffer<f32>, ids: &Ids, out: PartMut<'_, Grown<f32>>) -> Result {
        if ids.count == 0 {
            return Ok(());
        }
        let positions = view(Part::new(&ids.positions, 0..ids.count))?;
        Ok(self.rows.angles(frequencies.view(), positions, view_mut(out)?)?)
    }

    fn flags(&self, flags: &[bool]) -> Result<Buffer<u8>> {
        let flags: Vec<u8> = flags.iter().map(|&flag| u8::from(flag)).collect();
        Ok(Buffer::from_slice(&self.device, &flags)?)
    }

    fn kept(&self, kept: KeptKeys) -> Result<Kept> {
        Ok(Kept::new(&self.device, kept)?)
    }

    fn listed(&self, positions: &[u32]) -> Result<Listed> {
        Ok(Listed::new(&self.device, positions)?)
    }

    fn choose_all(&self, choices: &mut [Choice<'_, Self>]) -> Result<Vec<Option<u32>>> {
        let mut rows = Vec::with_capacity(choices.len());
        for Choice { logits, sampling, seen, uniform } in choices {
            let (logits, seen) = (view(*logits)?, seen.as_deref_mut().map(Buffer::view_mut));
            rows.push(RowChoice { logits, sampling, seen, uniform: *uniform });
        }
        Ok(self.rows.choose(&mut rows)?)
    }

    fn record<E: From<TensorError>>(
        &self,
        step: impl FnOnce() -> std::result::Result<(), E>,
    ) -> std::result::Result<Option<Recording>, E> {
        // What the step itself returns comes out as it is.
        let mut failed = None;
        let recorded = Recording::of(&self.device, || {
            step().map_err(|error| {
                failed = Some(error);
                CudaError::Unsupported { what: "a step that failed".into() }
            })
        });
        match (failed, recorded) {
            (Some(error), _) => Err(error),
            (None, Ok(recording)) => Ok(Some(recording)),
            (None, Err(error)) => Err(TensorError::from(error).into()),
        }
    }

    fn can_replay(&self, recording: &Recording, later: u32) -> bool {
        recording.can_replay(later)
    }

    fn replay(&self, recording: &mut Recording, later: u32) -> Result {
        Ok(recording.replay(&self.device, later)?)
    }

    fn rms_norm(
        &self,
        x: Part<'_, Grown<f32>>,
        weight: &Buffer<f32>,
        eps: f32,
        out: &mut Activations,
    ) -> Result {
        let (width, x) = (weight.len(), view(x)?);
        let out = out.reset(&self.device, x.len() / width, width)?;
        Ok(self.rows.rms_norm(x, weight.view(), eps, out)?)
    }

    fn linear(
        &self,
        x: &Activations,
        w: &Matrix,
        bias: Option<&Buffer<f32>>,
        y: PartMut<'_, Grown<bf16>>,
    ) -> Result {
        let (shape, pass, x, mut y) = (x.shape(w), x.pass, x.view()?, view_mut(y)?);
        if is_few(pass, shape.0) {
            return Ok(self.gemv.bf16(x, w.weights.view(), bias.map(Buffer::view), shape, y)?);
        }
        self.gemm.bf16(x, w.weights.view(), shape, y.reborrow())?;
        if let Some(bias) = bias {
            self.rows.add_bias_bf16(y, bias.view())?;
        }
        Ok(())
    }

    fn linear_sums(&self, x: &Activations, w: &Matrix, y: PartMut<'_, Grown<f32>>) -> Result {
        let (shape, pass, x, y) = (x.shape(w), x.pass, x.view()?, view_mut(y)?);
        if is_few(pass, shape.0) {
            return Ok(self.gemv.f32(x, w.weights.view(), None, shape, y)?);
        }
        Ok(self.gemm.f32(x, w.weights.view(), shape, y)?)
    }

    fn linear_add(
        &self,
        x: &Activations,
        w: &Matrix,
        bias: Option<&Buffer<f32>>,
        y: PartMut<'_, Grown<f32>>,
    ) -> Result {
        Ok(self.add_product(x.view()?, w, bias, x.shape(w), x.pass, view_mut(y)?)?)
    }

    fn linear_add_rows(
        &self,
        x: Part<'_, Grown<bf16>>,
        scratch: &mut Activations,
        w: &Matrix,
        bias: Option<&Buffer<f32>>,
        y: PartMut<'_, Grown<f32>>,
    ) -> Result {
        let inputs = w.weights.len() / w.outputs;
        let shape = (x.len / inputs, inputs, w.outputs);
        Ok(self.add_product(view(x)?, w, bias, shape, scratch.pass, view_mut(y)?)?)
    }

    fn linear_gated(
        &self,
        x: &Activations,
        w: &Matrix,
        bias: Option<&Buffer<f32>>,
        out: &mut Activations,
    ) -> Result {
        let (rows, inputs, both) = x.shape(w);
        let (pass, x) = (x.pass, x.view()?);
        out.pass = pass;
        let out = out.reset(&self.device, rows, both / 2)?;
        if is_few(pass, rows) {
            let (bias, shape) = (bias.map(Buffer::view), (rows, inputs, both / 2));
            return Ok(self.gemv.gated(x, w.weights.view(), bias, shape, out)?);
        }
        // [rows, gate and up]
        let mut products = Buffer::uninit(&self.device, rows * both)?;
        let shape = (rows, inputs, both);
        self.gemm.bf16(x, w.weights.view(), shape, products.view_mut())?;
        if let Some(bias) = bias {
            self.rows.add_bias_bf16(products.view_mut(), bias.view())?;
        }
        Ok(self.rows.silu_mul(products.view(), both / 2, out)?)
    }

    fn slab(
        &self,
        x: &Activations,
        w: Slab<'_, Matrix>,
        bias: Option<&Buffer<f32>>,
        y: PartMut<'_, Grown<bf16>>,
        stride: usize,
    ) -> Result {
        if w.outputs.is_empty() {
            return Ok(());
        }
        let sizes = Sizes { y_stride: stride, ..w.of.sizes(x.rows, &w) };
        let bias = bias.map(|bias| bias.slice(w.outputs.clone())).transpose()?;
        Ok(self.gemv.bf16(x.view()?, w.of.slab(&w)?, bias, sizes, view_mut(y)?)?)
    }

    fn slab_sums(
        &self,
        x: &Activations,
        w: Slab<'_, Matrix>,
        bias: Option<&Buffer<f32>>,
        y: PartMut<'_, Grown<f32>>,
        stride: usize,
    ) -> Result {
        if w.outputs.is_empty() {
            return Ok(());
        }
        let bias = bias.map(|bias| bias.slice(w.outputs.clone())).transpose()?;
        if w.inputs.is_empty() {
            return Ok(self.no_product(bias, view_mut(y)?)?);
        }
        let sizes = Sizes { y_stride: stride, ..w.of.sizes(x.rows, &w) };
        Ok(self.gemv.f32(x.view()?, w.of.slab(&w)?, bias, sizes, view_mut(y)?)?)
    }

    fn slab_sums_rows(
        &self,
        x: Part<'_, Grown<bf16>>,
        _scratch: &mut Activations,
        w: Slab<'_, Matrix>,
        bias: Option<&Buffer<f32>>,
        y: PartMut<'_, Grown<f32>>,
    ) -> Result {
        let bias = bias.map(|bias| bias.slice(w.outputs.clone())).transpose()?;
        if w.inputs.is_empty() {
            return Ok(self.no_product(bias, view_mut(y)?)?);
        }
        let x_stride = w.of.inputs();
        let sizes = Sizes { x_stride, ..w.of.sizes(x.len / x_stride, &w) };
        // From the first row's first to the last one's last.
        let columns = w.inputs.start..x.len - (x_stride - w.inputs.end);
        let x = view(x)?.slice(columns)?;
        Ok(self.gemv.f32(x, w.of.slab(&w)?, bias, sizes, view_mut(y)?)?)
    }

    fn slab_gated(
        &self,
        x: &Activations,
        w: Slab<'_, Matrix>,
        bias: Option<&Buffer<f32>>,
        out: &mut Activations,
    ) -> Result {
        if w.outputs.is_empty() {
            return Ok(());
        }
        let up = w.of.outputs / 2;
        let sizes = Sizes { up, ..w.of.sizes(x.rows, &w) };
        // From the gate's first output to up's last.
        let outputs = w.outputs.start..up + w.outputs.end;
        let both = Slab { of: w.of, outputs, inputs: w.inputs.clone() };
        let bias = bias.map(|bias| bias.slice(both.outputs.clone())).transpose()?;
        out.pass = x.pass;
        let out = out.reset(&self.device, x.rows, w.outputs.len())?;
        Ok(self.gemv.gated(x.view()?, w.of.slab(&both)?, bias, sizes, out)?)
    }

    fn split_and_rotate(
        &self,
        qkv: Part<'_, Grown<bf16>>,
        shape: HeadShape,
        rotation: Rotation<'_, Self>,
        out: SplitQkv<'_, Self>,
    ) -> Result {
        let norms = rotation.norms.map(|(q, k, eps)| (q.view(), k.view(), eps));
        let out = [view_mut(out.q)?, view_mut(out.k)?, view_mut(out.v)?];
        Ok(self.rows.split_rotate(view(qkv)?, shape, norms, view(rotation.angles)?, out)?)
    }

    fn attend(
        &self,
        q: Part<'_, Grown<bf16>>,
        shape: HeadShape,
        sequences: &[Sequence<'_, Self>],
        out: PartMut<'_, Grown<bf16>>,
        lse: PartMut<'_, Grown<f32>>,
    ) -> Result {
        if q.len == 0 {
            return Ok(());
        }
        Ok(self.attend_sequences(view(q)?, shape, sequences, view_mut(out)?, view_mut(lse)?)?)
    }

    fn mass(
        &self,
        q: Part<'_, Grown<bf16>>,
        shape: HeadShape,
        sequence: &Sequence<'_, Self>,
        lse: Part<'_, Grown<f32>>,
        over: MassOver,
        sums: PartMut<'_, Grown<f32>>,
    ) -> Result {
        let Sequence { rows, positions, segments } = sequence;
        if sums.len == 0 {
            return Ok(());
        }
        let range = |width: usize| rows.start * width..rows.end * width;
        let (q, lse) = (q.slice(range(shape.q_width())), lse.slice(range(shape.heads)));
        let (tokens, places) = (rows.len(), Places::of(*positions, rows.len())?);
        let queries = Queries { q: view(q)?, tokens, places, shape };
        Ok(self.mass_of(queries, segments, view(lse)?, over, view_mut(sums)?)?)
    }

    fn attend_tiles(
        &self,
        q: Part<'_, Grown<bf16>>,
        shape: HeadShape,
        sequence: &Sequence<'_, Self>,
        mask: &TileMask,
        out: PartMut<'_, Grown<bf16>>,
        lse: PartMut<'_, Grown<f32>>,
    ) -> Result {
        let (q, out, lse) = (view(q)?, view_mut(out)?, view_mut(lse)?);
        Ok(self.attend_listed(q, shape, sequence, mask, out, lse)?)
    }

    fn lines(
        &self,
        q: Part<'_, Grown<bf16>>,
        shape: HeadShape,
        sequence: &Sequence<'_, Self>,
        lse: Part<'_, Grown<f32>>,
        vertical: PartMut<'_, Grown<f32>>,
        slash: PartMut<'_, Grown<f32>>,
    ) -> Result {
        let (vertical, slash) = (view_mut(vertical)?, view_mut(slash)?);
        Ok(self.weigh_lines(view(q)?, shape, sequence, view(lse)?, vertical, slash)?)
    }

    fn tile_mass(
        &self,
        q: Part<'_, Grown<bf16>>,
        shape: HeadShape,
        sequence: &Sequence<'_, Self>,
        grain: Grain,
        sums: PartMut<'_, Grown<f32>>,
    ) -> Result {
        Ok(self.weigh_tiles(view(q)?, shape, sequence, grain, view_mut(sums)?)?)
    }

    fn heaviest(
        &self,
        weights: Part<'_, Grown<f32>>,
        heads: usize,
        key_tiles: usize,
        own: &[Range<u32>],
        share: f32,
    ) -> Result<Vec<u32>> {
        Ok(self.heaviest_tiles(view(weights)?, heads, key_tiles, own, share)?)
    }

    fn moments(
        &self,
        q: Part<'_, Grown<bf16>>,
        shape: HeadShape,
        start: usize,
        frequencies: &[f32],
    ) -> Result<Vec<f32>> {
        if q.len == 0 {
            return Ok(vec![0.0; shape.heads * (shape.head_dim + 1) * shape.head_dim]);
        }
        Ok(self.moments_of(view(q)?, shape, start, frequencies)?)
    }

    fn expected_scores(
        &self,
        keys: Part<'_, Kv>,
        shape: HeadShape,
        queries: &[f32],
    ) -> Result<Vec<f32>> {
        Ok(self.expected_of(keys, shape, queries)?)
    }

    fn norms(&self, kv: Part<'_, Kv>, shape: HeadShape) -> Result<Vec<f32>> {
        Ok(self.norms_of(kv, shape)?)
    }

    fn add_rows(
        &self,
        rows: Part<'_, Grown<f32>>,
        sums: PartMut<'_, Grown<f32>>,
        first: bool,
    ) -> Result {
        if sums.len == 0 {
            return Ok(());
        }
        Ok(self.rows.add_rows(view(rows)?, view_mut(sums)?, first)?)
    }

    fn gather(&self, kv: Part<'_, Kv>, shape: HeadShape, chosen: &[u32]) -> Result<Kv> {
        Ok(Kv::gather(&self.rows, kv, shape, chosen)?)
    }

    fn merge(
        &self,
        out: PartMut<'_, Grown<bf16>>,
        lse: PartMut<'_, Grown<f32>>,
        part: Part<'_, Grown<bf16>>,
        part_lse: Part<'_, Grown<f32>>,
    ) -> Result {
        if lse.len == 0 {
            return Ok(());
        }
        let (out, lse) = (view_mut(out)?, view_mut(lse)?);
        Ok(self.rows.merge(out, lse, view(part)?, view(part_lse)?)?)
    }

    fn merge_all(
        &self,
        count: usize,
        parts: Part<'_, Grown<bf16>>,
        lse: Part<'_, Grown<f32>>,
        out: PartMut<'_, Grown<bf16>>,
    ) -> Result {
        if lse.len == 0 {
            return Ok(());
        }
        Ok(self.rows.merge_all(count, view(parts)?, view(lse)?, view_mut(out)?)?)
    }
}

impl Memory for Buffer<f32> {
    fn len(&self) -> usize {
        self.len()
    }

    fn bytes(&self) -> usize {
        self.len() * size_of::<f32>()
    }
}
