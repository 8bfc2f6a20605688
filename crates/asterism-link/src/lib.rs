//! What hosts in processes of their own need of the system they run on. Like `asterism-tensor` it
//! has what is `unsafe`, each with the reason why it is sound, and a safe face:
//!
//! * [`mpi`]: messages between processes, by the MPI library of the machine
//! * `nccl`: messages between GPUs, by NVIDIA's NCCL; with the feature `cuda`
//! * [`system`]: this machine's addresses, processes that belong together, and how to leave at once
//!
//! Nothing is linked: both libraries are looked for when they are first asked for, so that one
//! program runs with them and without them.

#![deny(unsafe_code)]

pub mod mpi;
#[cfg(feature = "cuda")]
pub mod nccl;
pub mod system;

/// What an error of the loader says, with what is behind it.
fn reason(error: &dyn std::error::Error) -> String {
    match error.source() {
        Some(source) => source.to_string(),
        None => error.to_string(),
    }
}
