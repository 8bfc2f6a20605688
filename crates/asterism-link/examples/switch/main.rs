//! A slow network on one machine, to try hosts on: an Ethernet switch between network namespaces.
//!
//! `switch DELAY_US MBIT LOST_PER_MILLION NAMESPACE...` puts a device `e0` into each namespace and
//! carries frames between them. Each frame is on its way for as long as its sender's link takes to
//! carry it, behind those before it, and for the delay; some are lost. Kernels do that with `tc
//! netem`, where they have it. Needs root, says `ready`, and runs until it is ended.

#[cfg(target_os = "linux")]
mod linux;

#[cfg(target_os = "linux")]
fn main() -> Result<(), Box<dyn std::error::Error>> {
    linux::run()
}

#[cfg(not(target_os = "linux"))]
fn main() {
    eprintln!("only Linux has network namespaces");
}
