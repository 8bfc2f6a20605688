//! What hosts in processes of their own need of the system they run on. Like `asterism-tensor` it
//! has what is `unsafe`, each with the reason why it is sound, and a safe face:
//!
//! * [`mpi`]: messages between processes, by the MPI library of the machine
//! * [`system`]: this machine's addresses, and how to leave at once
//!
//! Nothing is linked: MPI is looked for when it is first asked for, so that one program runs with
//! it and without it.

#![deny(unsafe_code)]

pub mod mpi;
pub mod system;
