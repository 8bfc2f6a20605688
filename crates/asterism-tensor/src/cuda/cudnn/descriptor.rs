//! cuDNN's descriptors: objects that are given attributes, finalized, and then only read.

#![allow(unsafe_code)]

use std::ffi::{CStr, c_void};
use std::ptr::null_mut;

use cudarc::cudnn::sys::{
    self as cudnn, cudnnBackendAttributeName_t as Name, cudnnBackendAttributeType_t as Type,
    cudnnBackendDescriptor_t, cudnnBackendDescriptorType_t as Kind, cudnnDataType_t,
    cudnnPointwiseMode_t, cudnnReduceTensorOp_t, cudnnStatus_t,
};

use crate::cuda::error::CudaError;

/// A descriptor, destroyed when dropped. Those it refers to must outlive it.
pub(super) struct Descriptor(cudnnBackendDescriptor_t);

/// A value an attribute may have.
///
/// # Safety
/// cuDNN reads attributes of `TYPE` as values that are laid out like this.
pub(super) unsafe trait Value {
    /// What cuDNN calls the type.
    const TYPE: Type;
}

macro_rules! values {
    ($($value:ty => $type:ident),* $(,)?) => {$(
        // SAFETY: the C type of that name is this one.
        unsafe impl Value for $value {
            const TYPE: Type = Type::$type;
        }
    )*};
}
values! {
    i64 => CUDNN_TYPE_INT64,
    f64 => CUDNN_TYPE_DOUBLE,
    bool => CUDNN_TYPE_BOOLEAN,
    *mut c_void => CUDNN_TYPE_VOID_PTR,
    cudnn::cudnnHandle_t => CUDNN_TYPE_HANDLE,
    cudnnDataType_t => CUDNN_TYPE_DATA_TYPE,
    cudnnPointwiseMode_t => CUDNN_TYPE_POINTWISE_MODE,
    cudnnReduceTensorOp_t => CUDNN_TYPE_REDUCTION_OPERATOR_TYPE,
    cudnn::cudnnBackendHeurMode_t => CUDNN_TYPE_HEUR_MODE,
}

impl Descriptor {
    pub(super) fn new(kind: Kind) -> Result<Self, CudaError> {
        let mut descriptor = Self(null_mut());
        // SAFETY: cuDNN is loaded (a `Cudnn` exists); the call writes the descriptor.
        check("cudnnBackendCreateDescriptor", unsafe {
            cudnn::cudnnBackendCreateDescriptor(kind, &mut descriptor.0)
        })?;
        Ok(descriptor)
    }

    pub(super) fn raw(&self) -> cudnnBackendDescriptor_t {
        self.0
    }

    /// Sets an attribute to one value.
    pub(super) fn set<T: Value>(&mut self, name: Name, value: T) -> Result<(), CudaError> {
        self.set_all(name, &[value])
    }

    /// Sets an attribute to several values.
    pub(super) fn set_all<T: Value>(&mut self, name: Name, values: &[T]) -> Result<(), CudaError> {
        // SAFETY: the descriptor exists; the call copies the values, whose layout `T` vouches for.
        unsafe { self.set_raw(name, T::TYPE, values.len(), values.as_ptr().cast()) }
    }

    /// Sets an attribute to other descriptors, which have to stay as long as this one.
    pub(super) fn refer(
        &mut self,
        name: Name,
        others: &[cudnnBackendDescriptor_t],
    ) -> Result<(), CudaError> {
        let kind = Type::CUDNN_TYPE_BACKEND_DESCRIPTOR;
        // SAFETY: as in `set_all`: the values are descriptors.
        unsafe { self.set_raw(name, kind, others.len(), others.as_ptr().cast()) }
    }

    /// # Safety
    /// `values` starts `count` values of `kind`.
    unsafe fn set_raw(
        &mut self,
        name: Name,
        kind: Type,
        count: usize,
        values: *const c_void,
    ) -> Result<(), CudaError> {
        // SAFETY: by this function's contract.
        check("cudnnBackendSetAttribute", unsafe {
            cudnn::cudnnBackendSetAttribute(self.0, name, kind, count as i64, values)
        })
    }

    /// Ends setting: cuDNN checks what was set, and for a plan compiles it.
    pub(super) fn finalize(&mut self) -> Result<(), CudaError> {
        // SAFETY: the descriptor exists.
        check("cudnnBackendFinalize", unsafe { cudnn::cudnnBackendFinalize(self.0) })
    }

    /// An attribute that is one number.
    pub(super) fn number(&self, name: Name) -> Result<i64, CudaError> {
        let (mut value, mut count) = (0i64, 0);
        // SAFETY: the descriptor exists; the call writes at most one number.
        check("cudnnBackendGetAttribute", unsafe {
            let value = (&raw mut value).cast();
            cudnn::cudnnBackendGetAttribute(
                self.0,
                name,
                Type::CUDNN_TYPE_INT64,
                1,
                &mut count,
                value,
            )
        })?;
        Ok(value)
    }

    /// An attribute that is a list of descriptors of `kind`.
    pub(super) fn list(&self, name: Name, kind: Kind) -> Result<Vec<Descriptor>, CudaError> {
        let descriptor = Type::CUDNN_TYPE_BACKEND_DESCRIPTOR;
        let mut count = 0;
        // SAFETY: the descriptor exists; asked for no element, the call writes how many there are.
        check("cudnnBackendGetAttribute", unsafe {
            cudnn::cudnnBackendGetAttribute(self.0, name, descriptor, 0, &mut count, null_mut())
        })?;
        let mut found: Vec<_> = (0..count).map(|_| Self::new(kind)).collect::<Result<_, _>>()?;
        let mut raw: Vec<_> = found.iter().map(|descriptor| descriptor.0).collect();
        // SAFETY: the call fills in at most as many descriptors as there are, all created above.
        check("cudnnBackendGetAttribute", unsafe {
            let raw = raw.as_mut_ptr().cast();
            cudnn::cudnnBackendGetAttribute(self.0, name, descriptor, count, &mut count, raw)
        })?;
        found.truncate(count.max(0) as usize);
        Ok(found)
    }
}

impl Drop for Descriptor {
    fn drop(&mut self) {
        if !self.0.is_null() {
            // SAFETY: created once, destroyed once.
            let _ = unsafe { cudnn::cudnnBackendDestroyDescriptor(self.0) };
        }
    }
}

/// The result of `call`, a function of cuDNN.
pub(super) fn check(call: &'static str, status: cudnnStatus_t) -> Result<(), CudaError> {
    if status == cudnnStatus_t::CUDNN_STATUS_SUCCESS {
        return Ok(());
    }
    let mut message = [0; 512];
    // SAFETY: cuDNN is loaded; the first call writes at most 512 bytes, zero included, the second
    // returns a static string.
    let (name, message) = unsafe {
        cudnn::cudnnGetLastErrorString(message.as_mut_ptr(), message.len());
        let last = message.len() - 1;
        message[last] = 0;
        (CStr::from_ptr(cudnn::cudnnGetErrorString(status)), CStr::from_ptr(message.as_ptr()))
    };
    let text = format!("{}: {}", name.to_string_lossy(), message.to_string_lossy());
    Err(CudaError::Call { call, code: status as i32, text })
}
