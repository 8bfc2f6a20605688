//! Where the ranks meet when nothing but the launcher's variables brings them together.

use super::launch::{Launch, LaunchError, Launcher, number};
use super::meet::{Door, Host};
use super::{WorldError, meet};
use sha2::{Digest, Sha256};
use std::net::{IpAddr, TcpStream, ToSocketAddrs};
use std::time::{Duration, Instant};

/// The port of rank 0 where none is named: torchrun's.
const PORT: u16 = 29_500;

/// Ports of jobs of Slurm, which has no variable for one: by the job's number, from here on.
const SLURM_PORTS: std::ops::Range<u16> = 20_000..29_000;

/// Where rank 0 waits, known to all before they meet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Rendezvous {
    /// A name or an address.
    machine: String,
    port: u16,
    /// What shows that somebody belongs here: as good as what the variables hold, which others may
    /// know. See `ASTERISM_JOB_SECRET`.
    secret: [u64; 2],
}

type Variable<'a> = &'a dyn Fn(&str) -> Option<String>;

impl Rendezvous {
    /// What the launcher's variables say, if they do.
    pub(super) fn of(launch: Launch, variable: Variable<'_>) -> Result<Option<Self>, LaunchError> {
        let port = |name| variable(name).map(|value| number(name, value)).transpose();
        let (machine, port) = if let Some(machine) = variable("MASTER_ADDR") {
            let port = port("MASTER_PORT")?.unwrap_or(PORT);
            // torchrun's own agent may wait at the port that it names.
            let is_taken = variable("TORCHELASTIC_USE_AGENT_STORE").is_some_and(|v| v == "True");
            (machine, port.saturating_add(u16::from(is_taken)))
        } else if let Some(machine) = variable("LWS_LEADER_ADDRESS") {
            (machine, PORT)
        } else if let (Launcher::Srun, Some(nodes)) =
            (launch.launcher, variable("SLURM_STEP_NODELIST"))
        {
            let job = variable("SLURM_JOB_ID").and_then(|id| id.parse::<u32>().ok()).unwrap_or(0);
            let step = variable("SLURM_STEP_ID").and_then(|id| id.parse::<u32>().ok()).unwrap_or(0);
            let among = u32::from(SLURM_PORTS.end - SLURM_PORTS.start);
            let offset = job.wrapping_mul(31).wrapping_add(step) % among;
            (first_node(&nodes), SLURM_PORTS.start + offset as u16)
        } else {
            return Ok(None);
        };
        let names = ["ASTERISM_JOB_SECRET", "TORCHELASTIC_RUN_ID", "SLURM_JOB_ID"];
        let known = names.iter().find_map(|name| variable(name)).unwrap_or_default();
        let text = format!("asterism {known} {machine} {port} {}", launch.size);
        let hash = Sha256::digest(text.as_bytes());
        let word =
            |at: usize| hash[at..at + 8].iter().fold(0, |word, byte| word << 8 | u64::from(*byte));
        Ok(Some(Self { machine, port, secret: [word(0), word(8)] }))
    }

    /// Whether all ranks are on one machine.
    pub(super) fn is_local(&self) -> bool {
        let address = self.machine.parse::<IpAddr>();
        address.map_or(self.machine == "localhost", |address| address.is_loopback())
    }

    /// On rank 0: waits for the others.
    pub(super) fn receive(
        &self,
        size: usize,
        wait: Duration,
    ) -> Result<Vec<(usize, TcpStream)>, WorldError> {
        let host = Host::at(self.port, self.is_local(), self.secret)?;
        host.receive(size, wait)
    }

    /// On the others: goes to rank 0.
    pub(super) fn enter(&self, rank: usize, wait: Duration) -> Result<TcpStream, WorldError> {
        let deadline = Instant::now() + wait;
        loop {
            // A name may be known only once the machine is there.
            let found = (self.machine.as_str(), self.port).to_socket_addrs();
            let why = match found {
                Ok(addresses) => {
                    let addresses = addresses.map(|address| address.ip()).collect();
                    let door = Door { secret: self.secret, port: self.port, addresses };
                    match door.enter(rank, meet::PATIENCE) {
                        Ok(stream) => return Ok(stream),
                        Err(WorldError::NoWay { why }) => why,
                        Err(error) => return Err(error),
                    }
                }
                Err(error) => format!("{}: {error}", self.machine),
            };
            if Instant::now() > deadline {
                return Err(WorldError::NoWay { why });
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }
}

/// The first of Slurm's list of nodes, such as `n[03-07,9],m1`.
fn first_node(nodes: &str) -> String {
    let Some((prefix, rest)) = nodes.split_once('[') else {
        return nodes.split(',').next().unwrap_or_default().to_owned();
    };
    if let Some((first, _)) = prefix.split_once(',') {
        return first.to_owned();
    }
    let (inside, behind) = rest.split_once(']').unwrap_or((rest, ""));
    let first = inside.split([',', '-']).next().unwrap_or_default();
    let suffix = behind.split(',').next().unwrap_or_default();
    format!("{prefix}{first}{suffix}")
}

/// Which of the processes on this machine this one is, from 0, if its launcher says so.
pub(super) fn local_rank(variable: Variable<'_>) -> Result<Option<usize>, LaunchError> {
    let names = ["LOCAL_RANK", "OMPI_COMM_WORLD_LOCAL_RANK", "MPI_LOCALRANKID", "SLURM_LOCALID"];
    let found = names.iter().find_map(|name| Some((*name, variable(name)?)));
    found.map(|(name, value)| number(name, value)).transpose()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(launcher: Launcher, set: &str) -> Option<Rendezvous> {
        let variable = |name: &str| {
            let mut pairs = set.split_whitespace().filter_map(|pair| pair.split_once('='));
            pairs.find(|(of, _)| *of == name).map(|(_, value)| value.to_owned())
        };
        Rendezvous::of(Launch { launcher, rank: 0, size: 2 }, &variable).unwrap()
    }

    #[test]
    fn ranks_meet_where_their_launcher_says() {
        use Launcher::{Hydra, LeaderWorkerSet, Srun, Torchrun};
        for (launcher, set, machine, port) in [
            (Torchrun, "MASTER_ADDR=a MASTER_PORT=1234", "a", 1234),
            (Torchrun, "MASTER_ADDR=a", "a", 29_500),
            (
                Torchrun,
                "MASTER_ADDR=a MASTER_PORT=1234 TORCHELASTIC_USE_AGENT_STORE=True",
                "a",
                1235,
            ),
            (LeaderWorkerSet, "LWS_LEADER_ADDRESS=leader.of", "leader.of", 29_500),
            (Srun, "SLURM_STEP_NODELIST=n[03-07,9] SLURM_JOB_ID=2", "n03", 20_062),
            (Srun, "MASTER_ADDR=a SLURM_STEP_NODELIST=n[3-7]", "a", 29_500),
        ] {
            let found = of(launcher, set).unwrap();
            assert_eq!((found.machine.as_str(), found.port), (machine, port), "{set}");
        }
        assert_eq!(of(Hydra, "PMI_RANK=0"), None);
    }

    #[test]
    fn other_jobs_have_other_secrets() {
        let secret = |set: &str| of(Launcher::Torchrun, set).unwrap().secret;
        let own = secret("MASTER_ADDR=a ASTERISM_JOB_SECRET=x");
        assert_eq!(own, secret("ASTERISM_JOB_SECRET=x MASTER_ADDR=a"));
        assert_ne!(own, secret("MASTER_ADDR=a ASTERISM_JOB_SECRET=y"));
        assert_ne!(own, secret("MASTER_ADDR=a MASTER_PORT=7 ASTERISM_JOB_SECRET=x"));
    }

    #[test]
    fn the_first_node_of_a_list_is_found() {
        for (list, first) in [
            ("n1", "n1"),
            ("n1,n2", "n1"),
            ("n[3-7]", "n3"),
            ("n[03,5-7],m1", "n03"),
            ("a,n[3-7]", "a"),
            ("r[1-2]c", "r1c"),
        ] {
            assert_eq!(first_node(list), first, "{list}");
        }
    }

    #[test]
    fn processes_of_a_machine_are_numbered() {
        let local = |set: &'static str| {
            local_rank(&|name| {
                let (of, value) = set.split_once('=')?;
                (of == name).then(|| value.to_owned())
            })
        };
        assert_eq!(local("SLURM_LOCALID=3"), Ok(Some(3)));
        assert_eq!(local("LOCAL_RANK=1"), Ok(Some(1)));
        assert_eq!(local("RANK=1"), Ok(None));
        assert!(local("LOCAL_RANK=x").is_err());
    }

    #[test]
    fn ranks_meet_without_anything_but_the_variables() {
        // A port that is free at the moment.
        let free = std::net::TcpListener::bind(("127.0.0.1", 0));
        let port = free.and_then(|listener| listener.local_addr()).unwrap().port();
        let place = Rendezvous { machine: "127.0.0.1".to_owned(), port, secret: [3, 4] };
        let wait = Duration::from_secs(10);
        let other = place.clone();
        let one = std::thread::spawn(move || other.enter(1, wait).map(drop));
        let streams = place.receive(2, wait).unwrap();
        assert_eq!(streams.len(), 1);
        one.join().unwrap().unwrap();
        let stranger = Rendezvous { secret: [5, 6], ..place.clone() };
        let stranger = std::thread::spawn(move || stranger.enter(1, Duration::ZERO).map(drop));
        let error = place.receive(2, Duration::from_millis(300)).unwrap_err().to_string();
        assert!(error.contains("rank 1 did not come"), "{error}");
        assert!(stranger.join().unwrap().is_err());
    }
}
