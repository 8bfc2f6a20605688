//! The connections between rank 0 and every other rank, and the signs of life on them.
//!
//! A process that ends closes its connections, wherever it is and however it ends. One that is
//! stopped, or cut off, falls silent. Rank 0 sees either of any other rank and tells the rest; the
//! others see it of rank 0. MPI would not tell: it never reports a process that is stopped.

use super::frame::{Frame, Kind, MOST};
use super::keys::Keys;
use std::io;
use std::net::{Shutdown, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

/// How often life is shown, and how long silence may last.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pulse {
    pub(crate) beat: Duration,
    pub(crate) silence: Duration,
}

impl Default for Pulse {
    fn default() -> Self {
        Self { beat: Duration::from_millis(500), silence: Duration::from_secs(3) }
    }
}

/// A rank that is gone, and why.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(crate) struct Lost {
    pub(crate) rank: usize,
    pub(crate) why: String,
}

impl std::fmt::Display for Lost {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "rank {} was lost: {}", self.rank, self.why)
    }
}

/// Frames that are not dealt with by the connections themselves, with the rank that sent them.
pub(crate) type Events = Receiver<(usize, Frame)>;

/// Hears of the first rank that is lost.
type OnLost = Box<dyn Fn(&Lost) + Send + Sync>;
/// Hears of commands that are given up.
type OnGivenUp = Box<dyn Fn(u64) + Send + Sync>;

/// This process's end of the control connections.
pub(crate) struct Control {
    rank: usize,
    /// Every other rank on rank 0; rank 0 on the others.
    peers: Vec<Peer>,
    /// What was lost first: those who leave in its wake look lost, too.
    first: OnceLock<Lost>,
    /// From here on processes may leave.
    is_ending: AtomicBool,
    on_lost: OnLost,
    on_given_up: OnceLock<OnGivenUp>,
    keys: Keys,
    pulse: Pulse,
}

struct Peer {
    rank: usize,
    stream: Mutex<TcpStream>,
}

impl Control {
    /// Takes over connections, each to the rank beside it. Frames that are not dealt with here come
    /// out of the receiver, with the rank that sent them.
    pub(crate) fn start(
        rank: usize,
        streams: Vec<(usize, TcpStream)>,
        pulse: Pulse,
        on_lost: impl Fn(&Lost) + Send + Sync + 'static,
    ) -> io::Result<(Arc<Self>, Events)> {
        let (events, receiver) = channel();
        let mut readers = Vec::new();
        let mut peers = Vec::new();
        for (rank, stream) in streams {
            stream.set_nodelay(true)?;
            stream.set_write_timeout(Some(pulse.silence))?;
            stream.set_read_timeout(Some(pulse.silence))?;
            readers.push((rank, stream.try_clone()?));
            peers.push(Peer { rank, stream: Mutex::new(stream) });
        }
        let control = Arc::new(Self {
            rank,
            peers,
            first: OnceLock::new(),
            is_ending: AtomicBool::new(false),
            on_lost: Box::new(on_lost),
            on_given_up: OnceLock::new(),
            keys: Keys::default(),
            pulse,
        });
        for (at, (peer, stream)) in readers.into_iter().enumerate() {
            let (control_of_reader, events) = (Arc::clone(&control), events.clone());
            let read = move || control_of_reader.read(peer, stream, &events);
            std::thread::Builder::new().name(format!("asterism rank {peer}")).spawn(read)?;
            let control = Arc::clone(&control);
            let beat = move || control.beat(at);
            std::thread::Builder::new().name("asterism pulse".to_owned()).spawn(beat)?;
        }
        Ok((control, receiver))
    }

    /// From now on `on_given_up` hears of the commands that a rank gave up. Only the first call
    /// counts.
    pub(crate) fn on_given_up(&self, on_given_up: impl Fn(u64) + Send + Sync + 'static) {
        let _ = self.on_given_up.set(Box::new(on_given_up));
    }

    /// Sends `frame` to every rank that this one is connected to. Whoever cannot be reached is
    /// lost, which its reader notices.
    pub(crate) fn send(&self, frame: &Frame) {
        self.send_to(frame, |_| true);
    }

    fn send_to(&self, frame: &Frame, wanted: impl Fn(usize) -> bool) {
        for peer in self.peers.iter().filter(|peer| wanted(peer.rank)) {
            let mut stream = peer.stream.lock().unwrap_or_else(PoisonError::into_inner);
            if let Err(error) = frame.write(&mut *stream) {
                drop(stream);
                self.lost(peer.rank, describe(&error, self.pulse));
            }
        }
    }

    /// Tells every rank that the command of this number is given up.
    pub(crate) fn give_up(&self, number: u64) {
        self.send(&Frame { kind: Kind::GivenUp, number, body: Vec::new() });
    }

    /// Tells every rank by what their messages find each other from command `number` on.
    #[cfg(any(feature = "cuda", test))]
    pub(crate) fn send_key(&self, number: u64, key: Vec<u8>) {
        self.send(&Frame { kind: Kind::Key, number, body: key });
    }

    /// What rank 0 tells of that.
    #[cfg(any(feature = "cuda", test))]
    pub(crate) fn keys(&self) -> &Keys {
        &self.keys
    }

    /// From now on processes may end.
    pub(crate) fn end(&self) {
        self.is_ending.store(true, Ordering::Release);
    }

    /// Whether processes may end.
    pub(crate) fn is_ending(&self) -> bool {
        self.is_ending.load(Ordering::Acquire)
    }

    /// Notes that `rank` is lost, if nothing was lost before.
    pub(crate) fn lost(&self, rank: usize, why: String) {
        let lost = Lost { rank, why };
        if self.is_ending() || self.first.set(lost.clone()).is_err() {
            return;
        }
        if self.rank == 0 {
            // Plain data, which always has bytes.
            let body = postcard::to_stdvec(&lost).unwrap_or_default();
            self.send_to(&Frame::new(Kind::Lost, body), |peer| peer != rank);
        }
        (self.on_lost)(&lost);
    }

    /// Shows that this process lives, as long as it does.
    fn beat(&self, at: usize) {
        let frame = Frame::new(Kind::Beat, Vec::new());
        while !self.is_over() {
            // Where somebody is writing, that is a sign of life as well.
            if let Ok(mut stream) = self.peers[at].stream.try_lock()
                && frame.write(&mut *stream).is_err()
            {
                // The reader says why.
                return;
            }
            std::thread::sleep(self.pulse.beat);
        }
    }

    fn is_over(&self) -> bool {
        self.is_ending() || self.first.get().is_some()
    }

    /// Reads what `peer` sends until its connection ends.
    fn read(&self, peer: usize, mut stream: TcpStream, events: &Sender<(usize, Frame)>) {
        loop {
            let frame = match Frame::read(&mut stream, MOST) {
                Ok(frame) => frame,
                Err(error) => return self.lost(peer, describe(&error, self.pulse)),
            };
            match frame.kind {
                Kind::Beat => {}
                Kind::GivenUp => {
                    if self.rank == 0 {
                        self.send_to(&frame, |rank| rank != peer);
                    }
                    if let Some(on_given_up) = self.on_given_up.get() {
                        on_given_up(frame.number);
                    }
                }
                Kind::Key => self.keys.put(frame.number, frame.body),
                Kind::Lost => match postcard::from_bytes::<Lost>(&frame.body) {
                    Ok(Lost { rank, why }) => self.lost(rank, why),
                    Err(_) => self.lost(peer, "it speaks another language".to_owned()),
                },
                kind => {
                    if kind == Kind::Bye {
                        self.end();
                    }
                    if events.send((peer, frame)).is_err() {
                        return;
                    }
                }
            }
        }
    }

    /// Closes the connections.
    pub(crate) fn close(&self) {
        self.end();
        for peer in &self.peers {
            let stream = peer.stream.lock().unwrap_or_else(PoisonError::into_inner);
            // A connection that is closed already is closed.
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

/// What the end of a connection says about the process at its other end.
fn describe(error: &io::Error, pulse: Pulse) -> String {
    use io::ErrorKind as E;
    match error.kind() {
        E::UnexpectedEof | E::ConnectionReset | E::BrokenPipe | E::ConnectionAborted => {
            "its process ended".to_owned()
        }
        E::WouldBlock | E::TimedOut => {
            format!("no sign of life for {} s", pulse.silence.as_secs_f32())
        }
        E::InvalidData => error.to_string(),
        _ => format!("its connection broke: {error}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::net::TcpListener;
    use std::time::Instant;

    const QUICK: Pulse =
        Pulse { beat: Duration::from_millis(20), silence: Duration::from_millis(400) };

    /// Two ends of a connection.
    fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let one = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        (one, listener.accept().unwrap().0)
    }

    /// A rank and what it says is lost.
    struct Rank {
        control: Arc<Control>,
        events: Events,
        losses: Receiver<Lost>,
    }

    fn rank(rank: usize, streams: Vec<(usize, TcpStream)>) -> Rank {
        let (sender, losses) = channel();
        let on_lost = move |lost: &Lost| sender.send(lost.clone()).unwrap();
        let (control, events) = Control::start(rank, streams, QUICK, on_lost).unwrap();
        Rank { control, events, losses }
    }

    /// Rank 0, rank 1, and the end of a rank 2 that a test plays.
    fn three() -> (Rank, Rank, TcpStream) {
        let (one_here, one_there) = pair();
        let (two_here, two_there) = pair();
        let zero = rank(0, vec![(1, one_here), (2, two_here)]);
        (zero, rank(1, vec![(0, one_there)]), two_there)
    }

    /// Keeps a rank that a test plays alive for `time`.
    fn beat(stream: &mut TcpStream, time: Duration) {
        let end = Instant::now() + time;
        while Instant::now() < end {
            Frame::new(Kind::Beat, Vec::new()).write(stream).unwrap();
            std::thread::sleep(QUICK.beat);
        }
    }

    fn lost(rank: &Rank) -> String {
        rank.losses.recv_timeout(Duration::from_secs(5)).unwrap().to_string()
    }

    #[test]
    fn a_process_that_ends_is_named_by_all_at_once() {
        let (zero, one, mut two) = three();
        beat(&mut two, Duration::from_millis(600));
        assert!(zero.losses.try_recv().is_err(), "it is alive");
        let start = Instant::now();
        drop(two);
        for rank in [&zero, &one] {
            assert_eq!(lost(rank), "rank 2 was lost: its process ended");
        }
        assert!(start.elapsed() < QUICK.silence, "{:?}", start.elapsed());
    }

    #[test]
    fn a_process_that_falls_silent_is_named_by_all() {
        let (zero, one, _two) = three();
        for rank in [&zero, &one] {
            assert_eq!(lost(rank), "rank 2 was lost: no sign of life for 0.4 s");
        }
    }

    #[test]
    fn rank_0_is_missed_by_all() {
        let (one_here, one_there) = pair();
        let one = rank(1, vec![(0, one_there)]);
        drop(one_here);
        assert_eq!(lost(&one), "rank 0 was lost: its process ended");
    }

    #[test]
    fn only_the_first_loss_counts() {
        let (zero, one, two) = three();
        drop(two);
        assert_eq!(lost(&zero), "rank 2 was lost: its process ended");
        assert_eq!(lost(&one), "rank 2 was lost: its process ended");
        // It leaves in the wake of the other.
        one.control.close();
        assert!(zero.losses.recv_timeout(2 * QUICK.silence).is_err());
    }

    #[test]
    fn a_slow_command_is_a_sign_of_life_and_nonsense_is_none() {
        let (zero, _one, mut two) = three();
        let mut bytes = Vec::new();
        let command = Frame { kind: Kind::Report, number: 7, body: vec![1; 10] };
        command.write(&mut bytes).unwrap();
        // Byte by byte, for longer than silence may last.
        for byte in bytes {
            two.write_all(&[byte]).unwrap();
            std::thread::sleep(QUICK.silence / 8);
        }
        let got = zero.events.recv_timeout(Duration::from_secs(5)).unwrap();
        assert_eq!(got, (2, command));
        two.write_all(&[99; 20]).unwrap();
        assert_eq!(lost(&zero), "rank 2 was lost: it speaks another language");
    }

    #[test]
    fn what_one_rank_gives_up_all_hear_of() {
        let (zero, one, mut two) = three();
        let (sender, heard) = channel();
        for (rank, who) in [(&zero, 0), (&one, 1)] {
            let sender = sender.clone();
            rank.control.on_given_up(move |number| sender.send((who, number)).unwrap());
        }
        Frame { kind: Kind::GivenUp, number: 5, body: Vec::new() }.write(&mut two).unwrap();
        let mut both = [(); 2].map(|()| heard.recv_timeout(Duration::from_secs(5)).unwrap());
        both.sort();
        assert_eq!(both, [(0, 5), (1, 5)]);
        // From rank 0 to the others.
        zero.control.give_up(6);
        assert_eq!(heard.recv_timeout(Duration::from_secs(5)).unwrap(), (1, 6));
    }

    #[test]
    fn a_key_is_for_one_command() {
        let (zero, one, _two) = three();
        zero.control.send_key(7, vec![1, 2]);
        let soon = Instant::now() + Duration::from_millis(100);
        assert_eq!(one.control.keys().take(6, &|| Instant::now() < soon), None);
        assert_eq!(one.control.keys().take(7, &|| true), Some(vec![1, 2]));
        assert_eq!(one.control.keys().take(7, &|| false), None);
    }

    #[test]
    fn after_a_good_bye_nobody_is_missed() {
        let (zero, one, two) = three();
        zero.control.end();
        zero.control.send(&Frame::new(Kind::Bye, Vec::new()));
        let (_, bye) = one.events.recv_timeout(Duration::from_secs(5)).unwrap();
        assert_eq!(bye.kind, Kind::Bye);
        drop(two);
        zero.control.close();
        assert!(one.losses.recv_timeout(QUICK.silence).is_err());
        assert!(zero.losses.try_recv().is_err());
    }
}
