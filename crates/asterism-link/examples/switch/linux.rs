//! The switch, by Linux's TAP devices.

#![allow(unsafe_code)]

use std::collections::{HashMap, VecDeque};
use std::error::Error;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// A frame waits behind others for at most so long; then it is dropped, as by a full buffer.
const BACKLOG: Duration = Duration::from_millis(200);

/// An address on Ethernet.
type Address = [u8; 6];

struct Port {
    /// The device, from the side of the wire.
    wire: File,
    /// Frames for it, and when they are due.
    queue: Mutex<VecDeque<(Instant, Vec<u8>)>>,
    arrived: Condvar,
}

struct Switch {
    ports: Vec<Port>,
    /// Which port an address was seen at.
    known: Mutex<HashMap<Address, usize>>,
    delay: Duration,
    bits_per_second: f64,
    lost_per_million: u64,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Makes the device `e0` of a namespace.
fn device(namespace: &str) -> io::Result<File> {
    let namespace = File::open(format!("/var/run/netns/{namespace}"))?;
    // A thread moves there, makes the device and ends; the open file stays.
    let made = std::thread::spawn(move || {
        // SAFETY: moves this thread alone, by a descriptor that is open.
        if unsafe { libc::setns(namespace.as_raw_fd(), libc::CLONE_NEWNET) } != 0 {
            return Err(io::Error::last_os_error());
        }
        let wire = OpenOptions::new().read(true).write(true).open("/dev/net/tun")?;
        // SAFETY: plain data; all zeros are valid.
        let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
        for (to, from) in request.ifr_name.iter_mut().zip(b"e0") {
            *to = from.cast_signed();
        }
        request.ifr_ifru.ifru_flags = (libc::IFF_TAP | libc::IFF_NO_PI) as libc::c_short;
        // SAFETY: the call reads and writes one `ifreq`.
        if unsafe { libc::ioctl(wire.as_raw_fd(), libc::TUNSETIFF, &mut request) } != 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(wire)
    });
    made.join().map_err(|_| io::Error::other("the thread for a device panicked"))?
}

/// Sleeps end when they should, not 50 microseconds later.
fn sleep_exactly() {
    // SAFETY: changes how this thread's timers are grouped, nothing else.
    unsafe { libc::prctl(libc::PR_SET_TIMERSLACK, 1000) };
}

impl Switch {
    /// Takes in what the device of port `from` sends, for ever.
    fn take_in(&self, from: usize) {
        use io::Read;
        let mut buffer = vec![0; 65_536];
        let mut random = 0x2545_f491_4f6c_dd1d ^ (from as u64 + 1);
        let mut free_at = Instant::now();
        loop {
            let Ok(len @ 14..) = (&self.ports[from].wire).read(&mut buffer) else {
                // Its link is down.
                std::thread::sleep(Duration::from_millis(5));
                continue;
            };
            let frame = &buffer[..len];
            let [to, sender] = [0, 6].map(|at| {
                let mut address = Address::default();
                address.copy_from_slice(&frame[at..at + 6]);
                address
            });
            lock(&self.known).insert(sender, from);
            // xorshift64
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            let now = Instant::now();
            if random % 1_000_000 < self.lost_per_million || free_at > now + BACKLOG {
                continue;
            }
            let takes = Duration::from_secs_f64(8.0 * len as f64 / self.bits_per_second);
            free_at = free_at.max(now) + takes;
            let only = lock(&self.known).get(&to).copied();
            let others = (0..self.ports.len()).filter(|port| *port != from);
            for port in others.filter(|port| only.is_none_or(|only| only == *port)) {
                lock(&self.ports[port].queue).push_back((free_at + self.delay, frame.to_vec()));
                self.ports[port].arrived.notify_one();
            }
        }
    }

    /// Gives out what is due at port `to`, for ever.
    fn give_out(&self, to: usize) {
        use io::Write;
        sleep_exactly();
        let Port { wire, queue, arrived } = &self.ports[to];
        loop {
            let mut waiting = lock(queue);
            let (due, frame) = loop {
                match waiting.pop_front() {
                    Some(first) => break first,
                    None => {
                        waiting = arrived.wait(waiting).unwrap_or_else(PoisonError::into_inner);
                    }
                }
            };
            drop(waiting);
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
            // A link that is down takes nothing.
            let _ = (&*wire).write(&frame);
        }
    }
}

/// Carries frames until it is ended.
pub(crate) fn run() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [delay, mbit, lost, namespaces @ ..] = &arguments[..] else {
        return Err("usage: switch DELAY_US MBIT LOST_PER_MILLION NAMESPACE...".into());
    };
    let port = |namespace: &String| {
        let wire = device(namespace)?;
        Ok(Port { wire, queue: Mutex::default(), arrived: Condvar::new() })
    };
    let switch = Arc::new(Switch {
        ports: namespaces.iter().map(port).collect::<io::Result<_>>()?,
        known: Mutex::default(),
        delay: Duration::from_micros(delay.parse()?),
        bits_per_second: 1e6 * mbit.parse::<f64>()?,
        lost_per_million: lost.parse()?,
    });
    let mut threads = Vec::new();
    for port in 0..switch.ports.len() {
        for run in [Switch::take_in, Switch::give_out] {
            let switch = Arc::clone(&switch);
            threads.push(std::thread::spawn(move || run(&switch, port)));
        }
    }
    println!("ready");
    for thread in threads {
        thread.join().map_err(|_| "a port panicked")?;
    }
    Ok(())
}
