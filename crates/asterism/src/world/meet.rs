//! How the ranks come to rank 0: it opens a port, and everybody knocks there. Where MPI has brought
//! them together already, they learn of the port by it: MPI would not tell who is gone.

use super::WorldError;
use super::frame::{Frame, Kind};
use serde::{Deserialize, Serialize};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};
use std::time::{Duration, Instant};

/// Where rank 0 waits, and what shows that somebody belongs to these processes and not to others.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Door {
    pub(super) secret: [u64; 2],
    pub(super) port: u16,
    pub(super) addresses: Vec<IpAddr>,
}

/// Addresses of a machine that are tried at most.
const MOST_ADDRESSES: usize = 16;

/// What a rank says when it comes.
#[derive(Serialize, Deserialize)]
struct Hello {
    secret: [u64; 2],
    rank: usize,
}

/// A stranger's first words are not read further than this.
const MOST_HELLO: usize = 64;

/// How long one address is tried, and one greeting awaited.
pub(super) const PATIENCE: Duration = Duration::from_secs(5);

/// The port that rank 0 opened.
pub(super) struct Host {
    listener: TcpListener,
    pub(super) door: Door,
}

impl Host {
    /// Opens a port that is free: on loopback alone if all ranks are on this machine.
    pub(super) fn open(is_local: bool) -> Result<Self, WorldError> {
        // Keys of hash tables are random numbers of the system.
        let secret = [(); 2].map(|()| RandomState::new().build_hasher().finish());
        Self::at(0, is_local, secret)
    }

    /// Opens `port` for those who know `secret`; otherwise as [`Self::open`].
    pub(super) fn at(port: u16, is_local: bool, secret: [u64; 2]) -> Result<Self, WorldError> {
        let failed = |error: std::io::Error| {
            let at = if port == 0 { String::new() } else { format!("port {port}: ") };
            WorldError::NoPort(format!("{at}{error}"))
        };
        let since = Instant::now();
        let bind = |address: IpAddr| loop {
            match TcpListener::bind(SocketAddr::new(address, port)) {
                // A rank that knocks before the door is there may have taken the port for its own
                // end of the connection, which it gives back.
                Err(error)
                    if error.kind() == ErrorKind::AddrInUse && since.elapsed() < PATIENCE =>
                {
                    std::thread::sleep(Duration::from_millis(20));
                }
                bound => return bound,
            }
        };
        let listener = if is_local {
            bind(Ipv4Addr::LOCALHOST.into())
        } else {
            // Of both families where there are both.
            bind(Ipv6Addr::UNSPECIFIED.into()).or_else(|_| bind(Ipv4Addr::UNSPECIFIED.into()))
        };
        let listener = listener.map_err(failed)?;
        let addresses = if is_local {
            vec![Ipv4Addr::LOCALHOST.into()]
        } else {
            let mut addresses = asterism_link::system::addresses();
            addresses.truncate(MOST_ADDRESSES);
            addresses
        };
        let port = listener.local_addr().map_err(failed)?.port();
        Ok(Self { listener, door: Door { secret, port, addresses } })
    }

    /// Waits for ranks 1 to `size` - 1, each with its connection.
    pub(super) fn receive(
        self,
        size: usize,
        wait: Duration,
    ) -> Result<Vec<(usize, TcpStream)>, WorldError> {
        let failed = |error: std::io::Error| WorldError::NoPort(error.to_string());
        let deadline = Instant::now() + wait;
        let Self { listener, door } = self;
        listener.set_nonblocking(true).map_err(failed)?;
        let door = Arc::new(door);
        let (came, comes) = channel();
        let mut ranks: Vec<Option<TcpStream>> = (0..size).map(|_| None).collect();
        loop {
            // Greeted on a thread of its own: a stranger who says nothing must not hold up others.
            if let Ok((stream, _)) = listener.accept() {
                let (door, came) = (Arc::clone(&door), came.clone());
                let greet = move || greet(stream, &door, &came);
                std::thread::Builder::new()
                    .name("asterism greeting".to_owned())
                    .spawn(greet)
                    .map_err(failed)?;
            } else {
                std::thread::sleep(Duration::from_millis(2));
            }
            for (rank, stream) in comes.try_iter() {
                if rank > 0
                    && let Some(place @ None) = ranks.get_mut(rank)
                {
                    *place = Some(stream);
                }
            }
            let is_missing = |rank: &usize| ranks[*rank].is_none();
            let missing: Vec<usize> = (1..size).filter(is_missing).collect();
            if missing.is_empty() {
                return Ok(ranks
                    .into_iter()
                    .enumerate()
                    .filter_map(|(rank, stream)| Some((rank, stream?)))
                    .collect());
            }
            if Instant::now() > deadline {
                return Err(WorldError::Missing { missing, seconds: wait.as_secs() });
            }
        }
    }
}

/// Hears who has come; strangers are sent away.
fn greet(mut stream: TcpStream, door: &Door, came: &Sender<(usize, TcpStream)>) {
    let hello = || -> Option<usize> {
        stream.set_nonblocking(false).ok()?;
        stream.set_read_timeout(Some(PATIENCE)).ok()?;
        let frame = Frame::read(&mut stream, MOST_HELLO).ok()?;
        let hello: Hello = postcard::from_bytes(&frame.body).ok()?;
        if frame.kind != Kind::Hello || hello.secret != door.secret {
            return None;
        }
        Frame::new(Kind::Welcome, Vec::new()).write(&mut stream).ok()?;
        Some(hello.rank)
    }();
    if let Some(rank) = hello {
        // Where nobody waits any more, rank 0 has given up.
        let _ = came.send((rank, stream));
    }
}

impl Door {
    /// Goes to rank 0, by whichever of its addresses leads there.
    pub(super) fn enter(&self, rank: usize, wait: Duration) -> Result<TcpStream, WorldError> {
        let deadline = Instant::now() + wait;
        let mut last = "it has no address".to_owned();
        loop {
            for address in &self.addresses {
                match self.knock(SocketAddr::new(*address, self.port), rank) {
                    Ok(stream) => return Ok(stream),
                    Err(error) => last = format!("{address}: {error}"),
                }
            }
            if Instant::now() > deadline {
                return Err(WorldError::NoWay { why: last });
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// Comes to `address`, where somebody else may live.
    fn knock(&self, address: SocketAddr, rank: usize) -> std::io::Result<TcpStream> {
        let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
        let hello = Hello { secret: self.secret, rank };
        let body = postcard::to_stdvec(&hello).map_err(std::io::Error::other)?;
        Frame::new(Kind::Hello, body).write(&mut stream)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        match Frame::read(&mut stream, 0)?.kind {
            Kind::Welcome => Ok(stream),
            _ => Err(std::io::Error::other("somebody else answers there")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    const WAIT: Duration = Duration::from_secs(10);

    #[test]
    fn ranks_come_in_any_order_and_strangers_do_not_count() {
        let host = Host::open(true).unwrap();
        let door = host.door.clone();
        let address = SocketAddr::new(door.addresses[0], door.port);
        let come = |rank: usize| {
            let door = door.clone();
            std::thread::spawn(move || door.enter(rank, WAIT).map(drop))
        };
        // One says nothing, one nonsense, one has another secret, one says it is rank 0, one
        // claims a rank that is not there.
        let silent = TcpStream::connect(address).unwrap();
        TcpStream::connect(address).unwrap().write_all(&[255; 100]).unwrap();
        let false_door = Door { secret: [1, 2], ..door.clone() };
        let liar = std::thread::spawn(move || false_door.knock(address, 1).map(drop));
        let (zero, ninth) = (come(0), come(9));
        let (two, one) = (come(2), come(1));
        let streams = host.receive(3, WAIT).unwrap();
        assert_eq!(streams.iter().map(|(rank, _)| *rank).collect::<Vec<_>>(), [1, 2]);
        for thread in [zero, ninth, two, one] {
            thread.join().unwrap().unwrap();
        }
        assert!(liar.join().unwrap().is_err());
        drop(silent);
    }

    #[test]
    fn who_does_not_come_is_named() {
        let host = Host::open(true).unwrap();
        let door = host.door.clone();
        let two = std::thread::spawn(move || door.enter(2, WAIT));
        let error = host.receive(4, Duration::from_millis(300)).unwrap_err().to_string();
        assert!(error.contains("ranks 1, 3"), "{error}");
        two.join().unwrap().unwrap();
    }

    #[test]
    fn rank_0_that_is_not_there_is_an_error() {
        let Host { listener, door } = Host::open(true).unwrap();
        drop(listener);
        let error = door.enter(1, Duration::from_millis(50)).unwrap_err().to_string();
        assert!(error.contains("127.0.0.1"), "{error}");
    }
}
