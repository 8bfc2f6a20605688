//! A graph, compiled: cuDNN proposes ways to run it, and the first that works here is taken.

#![allow(unsafe_code)]

use std::ffi::c_void;

use cudarc::cudnn::sys::{
    self as cudnn, cudnnBackendAttributeName_t as Name, cudnnBackendDescriptorType_t as Kind,
    cudnnBackendHeurMode_t, cudnnHandle_t,
};

use super::descriptor::{Descriptor, check};
use super::graph::Graph;
use super::{Bound, Key};
use crate::cuda::error::CudaError;

/// An attention that can be run.
pub(super) struct Plan {
    // Dropped in this order: what refers to others first.
    plan: Descriptor,
    _engine: Descriptor,
    _graph: Graph,
    /// Bytes of working memory a run takes.
    pub(super) workspace: usize,
}

impl Plan {
    /// Plans and compiles an attention; takes some tenths of a second.
    pub(super) fn new(handle: cudnnHandle_t, key: Key) -> Result<Self, CudaError> {
        let graph = Graph::attention(handle, key)?;
        let mut heuristics = Descriptor::new(Kind::CUDNN_BACKEND_ENGINEHEUR_DESCRIPTOR)?;
        heuristics.refer(Name::CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH, &[graph.whole()])?;
        let mode = cudnnBackendHeurMode_t::CUDNN_HEUR_MODE_A;
        heuristics.set(Name::CUDNN_ATTR_ENGINEHEUR_MODE, mode)?;
        heuristics.finalize()?;
        let engines = heuristics
            .list(Name::CUDNN_ATTR_ENGINEHEUR_RESULTS, Kind::CUDNN_BACKEND_ENGINECFG_DESCRIPTOR)?;
        let mut refused = None;
        for engine in engines {
            match Self::compile(handle, &engine) {
                Ok((plan, workspace)) => {
                    return Ok(Self { plan, _engine: engine, _graph: graph, workspace });
                }
                Err(error) => refused = Some(error),
            }
        }
        Err(refused.unwrap_or_else(|| CudaError::Unsupported {
            what: format!("this attention in cuDNN: {key:?}"),
        }))
    }

    fn compile(
        handle: cudnnHandle_t,
        engine: &Descriptor,
    ) -> Result<(Descriptor, usize), CudaError> {
        let mut plan = Descriptor::new(Kind::CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR)?;
        plan.set(Name::CUDNN_ATTR_EXECUTION_PLAN_HANDLE, handle)?;
        plan.refer(Name::CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG, &[engine.raw()])?;
        plan.finalize()?;
        let workspace = plan.number(Name::CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE)?;
        Ok((plan, workspace.max(0) as usize))
    }

    /// Enqueues the attention on the handle's stream.
    ///
    /// # Safety
    /// `bound` gives each tensor of the graph its memory: on the device as large as the key says,
    /// or on the host for a single number; `workspace` starts as many bytes as the plan asks for.
    pub(super) unsafe fn execute(
        &self,
        handle: cudnnHandle_t,
        bound: &[(Bound, *mut c_void)],
        workspace: *mut c_void,
    ) -> Result<(), CudaError> {
        let uids: Vec<i64> = bound.iter().map(|(bound, _)| *bound as i64).collect();
        let pointers: Vec<*mut c_void> = bound.iter().map(|(_, pointer)| *pointer).collect();
        let mut pack = Descriptor::new(Kind::CUDNN_BACKEND_VARIANT_PACK_DESCRIPTOR)?;
        pack.set_all(Name::CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS, &uids)?;
        pack.set_all(Name::CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS, &pointers)?;
        pack.set(Name::CUDNN_ATTR_VARIANT_PACK_WORKSPACE, workspace)?;
        pack.finalize()?;
        // SAFETY: by this function's contract; the descriptors are finalized and alive.
        check("cudnnBackendExecute", unsafe {
            cudnn::cudnnBackendExecute(handle, self.plan.raw(), pack.raw())
        })
    }
}
