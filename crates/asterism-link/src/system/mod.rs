//! What the system offers and the standard library does not.
//!
//! * [`addresses`]: where others reach this machine
//! * [`family`]: processes that begin, hear of signals and end together
//! * [`leave`]: the end, at once

#![allow(unsafe_code)]

pub mod family;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The addresses of this machine at which others may reach it: those of its interfaces that are up,
/// without loopback and without addresses that are of use on one wire only. Empty if the system
/// does not tell.
#[must_use]
pub fn addresses() -> Vec<IpAddr> {
    let mut list = std::ptr::null_mut();
    // SAFETY: on success the system fills `list`, which is freed below.
    if unsafe { libc::getifaddrs(&mut list) } != 0 {
        return Vec::new();
    }
    let mut found = Vec::new();
    let mut next = list.cast_const();
    // SAFETY: the list ends with a null pointer, and lives until it is freed.
    while let Some(entry) = unsafe { next.as_ref() } {
        next = entry.ifa_next;
        let is_up = entry.ifa_flags & libc::IFF_UP as libc::c_uint != 0;
        // SAFETY: null, or the entry's address, of the length that its family says.
        let address = unsafe { address(entry.ifa_addr) };
        found.extend(address.filter(|address| is_up && reaches(address)));
    }
    // SAFETY: from getifaddrs, and not used any more.
    unsafe { libc::freeifaddrs(list) };
    found.dedup();
    found
}

/// # Safety
/// `from` is null or a whole address of its family.
unsafe fn address(from: *const libc::sockaddr) -> Option<IpAddr> {
    // SAFETY: by the caller.
    match libc::c_int::from(unsafe { from.as_ref()? }.sa_family) {
        libc::AF_INET => {
            // SAFETY: of this family, by the caller; it may lie at any address.
            let v4 = unsafe { from.cast::<libc::sockaddr_in>().read_unaligned() };
            Some(Ipv4Addr::from_bits(u32::from_be(v4.sin_addr.s_addr)).into())
        }
        libc::AF_INET6 => {
            // SAFETY: as above.
            let v6 = unsafe { from.cast::<libc::sockaddr_in6>().read_unaligned() };
            Some(Ipv6Addr::from(v6.sin6_addr.s6_addr).into())
        }
        _ => None,
    }
}

fn reaches(address: &IpAddr) -> bool {
    let one_wire = match address {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    };
    !address.is_loopback() && !one_wire
}

/// Ends the process at once, with exit code `code`: no destructor runs, and nothing that hangs can
/// keep it.
pub fn leave(code: i32) -> ! {
    // SAFETY: does not return, so nothing sees what it leaves behind.
    unsafe { libc::_exit(code) }
}

/// Sets a variable of the environment, unless it is set.
#[cfg(feature = "cuda")]
pub(crate) fn set_default(name: &str, value: &str) {
    if std::env::var_os(name).is_none() {
        // SAFETY: readers in Rust take the lock that this takes; those of other languages do not
        // run yet, by what `nccl::avoid_multicast` says of its callers.
        unsafe { std::env::set_var(name, value) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_those_that_others_reach() {
        // How many there are is the machine's business.
        assert!(addresses().iter().all(reaches));
        for (address, expected) in
            [("127.0.0.1", false), ("::1", false), ("fe80::1", false), ("169.254.1.1", false)]
        {
            assert_eq!(reaches(&address.parse().unwrap()), expected, "{address}");
        }
        assert!(reaches(&"192.0.2.1".parse().unwrap()));
    }
}
