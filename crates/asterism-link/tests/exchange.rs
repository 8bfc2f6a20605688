//! Messages between real processes. Each test starts this program again under `mpirun` and is,
//! there, what every rank does.

#![allow(clippy::unwrap_used)]

use asterism_link::mpi::{Envelope, Mpi, Options, Payload};
use asterism_tensor::{Aligned, Cpu, Kv, Precision};
use std::process::Command;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

const WAIT: Duration = Duration::from_secs(20);

/// Elements of a head of keys.
const HEAD_DIM: usize = 5;

/// Whether this process is a rank. If not, starts `ranks` of them that run the test `name`.
fn is_rank(name: &str, ranks: usize) -> bool {
    if std::env::var_os("ASTERISM_TEST_RANK").is_some() {
        return true;
    }
    let this = std::env::current_exe().unwrap();
    let status = Command::new("timeout")
        .args(["--signal=KILL", "60", "mpirun", "--oversubscribe", "--bind-to", "none", "-n"])
        .arg(ranks.to_string())
        .arg(this)
        .args(["--exact", name, "--ignored", "--nocapture"])
        .env("ASTERISM_TEST_RANK", "1")
        .env("OMPI_ALLOW_RUN_AS_ROOT", "1")
        .env("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1")
        .status()
        .expect("mpirun is installed");
    assert!(status.success(), "{status}");
    false
}

fn start(options: Options) -> (Mpi, Receiver<Envelope>) {
    let mpi = Mpi::start(options).unwrap();
    let (sender, receiver) = channel();
    mpi.deliver(HEAD_DIM, move |message| sender.send(message.unwrap()).unwrap());
    (mpi, receiver)
}

fn floats(from: usize, len: usize) -> Arc<Aligned<f32>> {
    Arc::new((0..len).map(|i| (i * 7 + from) as f32).collect())
}

#[test]
#[ignore = "needs mpirun; .ci/run installs it and runs this"]
fn what_is_sent_arrives_in_order_whole_and_of_its_kind() {
    if !is_rank("what_is_sent_arrives_in_order_whole_and_of_its_kind", 3) {
        return;
    }
    // Lengths around a piece and around several, and none at all.
    let piece = 64 << 10;
    let (mpi, messages) = start(Options { piece, ..Options::default() });
    let (rank, size) = (mpi.rank(), mpi.size());
    assert_eq!(size, 3);
    let lengths = [0, 1, piece / 4 - 1, piece / 4, piece / 4 + 1, piece, 5 * piece];
    let cpu = Cpu::new(1, None).unwrap();
    let kv = |mut empty: Kv, from: usize, len: usize| {
        cpu.append(&mut empty, &floats(from, len));
        Payload::Kv(Arc::new(empty))
    };
    let kv = &kv;
    let payloads = move |from: usize| {
        lengths.into_iter().flat_map(move |len| {
            let precision = [Precision::F32, Precision::Bf16][len % 2];
            [
                Payload::Words(Arc::new(vec![from as u64; len])),
                Payload::Rows(floats(from, len)),
                Payload::Sums(floats(from + 1, len)),
                kv(Kv::floats(precision, len), from, len),
                kv(Kv::int8(HEAD_DIM, 0), from, len / HEAD_DIM * HEAD_DIM),
            ]
        })
    };
    mpi.expect(true).unwrap();
    // Twice, so that buffers are used again. One rank may be a round ahead of another.
    let numbered = |from: usize| {
        let numbers = (0..2 * lengths.len() * 5).map(|i| Mpi::NUMBERS - 1 - i as u16);
        payloads(from).chain(payloads(from)).zip(numbers)
    };
    let mut expected: Vec<_> = (0..size).map(numbered).collect();
    for to in (0..size).filter(|to| *to != rank) {
        for (payload, number) in numbered(rank) {
            mpi.send(to, number, payload).unwrap();
        }
    }
    for _ in 0..(size - 1) * 2 * lengths.len() * 5 {
        let Envelope { from, number, payload } = messages.recv_timeout(WAIT).unwrap();
        let (wanted, wanted_number) = expected[from].next().unwrap();
        assert_eq!(number, wanted_number);
        assert!(payload == wanted, "message {number} of rank {from} at rank {rank}");
    }
    mpi.expect(false).unwrap();
    mpi.finish(WAIT).unwrap();
}

#[test]
#[ignore = "needs mpirun; .ci/run installs it and runs this"]
fn ranks_gather_what_each_of_them_has() {
    if !is_rank("ranks_gather_what_each_of_them_has", 4) {
        return;
    }
    let mpi = Mpi::start(Options::default()).unwrap();
    let all = mpi.all_gather(&[mpi.rank() as u8; 5], WAIT).unwrap();
    assert_eq!(all, [[0; 5], [1; 5], [2; 5], [3; 5]]);
    assert!(!mpi.library().is_empty());
    mpi.finish(WAIT).unwrap();
}

#[test]
#[ignore = "needs mpirun; .ci/run installs it and runs this"]
fn a_large_message_moves_while_its_receiver_computes() {
    if !is_rank("a_large_message_moves_while_its_receiver_computes", 2) {
        return;
    }
    let (mpi, messages) = start(Options::default());
    mpi.expect(true).unwrap();
    let other = 1 - mpi.rank();
    mpi.send(other, 1, Payload::Rows(floats(mpi.rank(), 1 << 20))).unwrap();
    // The thread that will want it does not call MPI, and sleeps as a GPU's would.
    std::thread::sleep(Duration::from_secs(2));
    let message = messages.try_recv().expect("it came meanwhile");
    assert_eq!(message.payload, Payload::Rows(floats(other, 1 << 20)));
    mpi.finish(WAIT).unwrap();
}
