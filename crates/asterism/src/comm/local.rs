//! Hosts as threads of one process: mailboxes in shared memory, real messages, counted bytes.

use super::{Comm, CommError, Expected, Message};
use crate::tensor::Backend;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};

/// What arrives at one host: a queue per sender.
struct Mailbox<B: Backend> {
    queues: Mutex<Vec<VecDeque<Message<B>>>>,
    arrived: Condvar,
}

struct Network<B: Backend> {
    /// One mailbox per host.
    mailboxes: Vec<Mailbox<B>>,
    aborted: AtomicBool,
}

/// One host of a group of threads.
pub struct LocalComm<B: Backend> {
    rank: usize,
    network: Arc<Network<B>>,
    sent: AtomicU64,
}

impl<B: Backend> LocalComm<B> {
    /// A group of `size` connected hosts, in order of rank.
    #[must_use]
    pub fn group(size: usize) -> Vec<Self> {
        let mailbox = || Mailbox {
            queues: Mutex::new((0..size).map(|_| VecDeque::new()).collect()),
            arrived: Condvar::new(),
        };
        let network = Arc::new(Network {
            mailboxes: (0..size).map(|_| mailbox()).collect(),
            aborted: AtomicBool::new(false),
        });
        (0..size)
            .map(|rank| Self { rank, network: Arc::clone(&network), sent: AtomicU64::new(0) })
            .collect()
    }

    fn check(&self) -> Result<(), CommError> {
        if self.network.aborted.load(Ordering::Acquire) { Err(CommError::Aborted) } else { Ok(()) }
    }
}

impl<B: Backend> Comm<B> for LocalComm<B> {
    fn rank(&self) -> usize {
        self.rank
    }

    fn size(&self) -> usize {
        self.network.mailboxes.len()
    }

    fn send(&self, to: usize, message: Message<B>) -> Result<(), CommError> {
        self.check()?;
        self.sent.fetch_add(message.bytes() as u64, Ordering::Relaxed);
        let mailbox = &self.network.mailboxes[to];
        // A panic cannot happen while the lock is held; a poisoned queue is still whole.
        let mut queues = mailbox.queues.lock().unwrap_or_else(PoisonError::into_inner);
        queues[self.rank].push_back(message);
        drop(queues);
        mailbox.arrived.notify_all();
        Ok(())
    }

    fn recv(&self, from: usize, _: Expected) -> Result<Message<B>, CommError> {
        let mailbox = &self.network.mailboxes[self.rank];
        let mut queues = mailbox.queues.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            self.check()?;
            if let Some(message) = queues[from].pop_front() {
                return Ok(message);
            }
            queues = mailbox.arrived.wait(queues).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn abort(&self) {
        self.network.aborted.store(true, Ordering::Release);
        for mailbox in &self.network.mailboxes {
            // Taking the lock makes sure that no host is between its check and its wait.
            drop(mailbox.queues.lock().unwrap_or_else(PoisonError::into_inner));
            mailbox.arrived.notify_all();
        }
    }

    fn renew(&self) {
        for mailbox in &self.network.mailboxes {
            let mut queues = mailbox.queues.lock().unwrap_or_else(PoisonError::into_inner);
            queues.iter_mut().for_each(VecDeque::clear);
        }
        self.network.aborted.store(false, Ordering::Release);
    }

    fn bytes_sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tensor::{Aligned, Cpu};

    fn group(size: usize) -> Vec<LocalComm<Cpu>> {
        LocalComm::group(size)
    }

    #[test]
    fn messages_arrive_in_order_per_sender_and_are_counted() {
        let hosts = group(3);
        hosts[1].send(0, Message::Words(vec![1])).unwrap();
        let mut sums = Aligned::default();
        sums.at_least(2).copy_from_slice(&[2.0, 3.0]);
        hosts[2].send(0, Message::Sums(Arc::new(sums))).unwrap();
        hosts[1].send(0, Message::Words(vec![4])).unwrap();
        assert_eq!(hosts[0].recv_sums(2, 2).unwrap()[..], [2.0, 3.0]);
        assert_eq!(hosts[0].recv_words(1, 1).unwrap(), [1]);
        assert_eq!(hosts[0].recv_words(1, 1).unwrap(), [4]);
        assert_eq!(
            [hosts[0].bytes_sent(), hosts[1].bytes_sent(), hosts[2].bytes_sent()],
            [0, 16, 8]
        );
    }

    #[test]
    fn the_wrong_kind_of_message_is_an_error_not_a_panic() {
        let hosts = group(2);
        hosts[1].send_to_others(&Message::Words(vec![1])).unwrap();
        let error = hosts[0].recv_sums(1, 1).unwrap_err();
        assert_eq!(error, CommError::Unexpected { rank: 0, from: 1, expected: "log-sum-exps" });
    }

    #[test]
    fn abort_wakes_those_who_wait() {
        let mut hosts = group(2);
        let other = hosts.pop().unwrap();
        let waiting = std::thread::spawn(move || other.recv_words(0, 1));
        std::thread::sleep(std::time::Duration::from_millis(20));
        hosts[0].abort();
        assert_eq!(waiting.join().unwrap().err(), Some(CommError::Aborted));
        assert_eq!(hosts[0].send(1, Message::Words(vec![])), Err(CommError::Aborted));
    }

    #[test]
    fn a_renewed_group_has_forgotten_what_was_sent_before() {
        let hosts = group(2);
        hosts[1].send(0, Message::Words(vec![1])).unwrap();
        hosts[1].abort();
        assert_eq!(hosts[0].recv_words(1, 1).err(), Some(CommError::Aborted));
        hosts[0].renew();
        hosts[1].send(0, Message::Words(vec![2])).unwrap();
        assert_eq!(hosts[0].recv_words(1, 1).unwrap(), [2]);
    }
}
