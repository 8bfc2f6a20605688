//! Jobs of several processes, started by `mpirun` or `asterism launch` and watched from outside.

use std::ffi::OsString;
use std::io::Read;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// Marks the processes of a job in their environment.
const MARK: &str = "ASTERISM_TEST_JOB";

/// The program.
pub(crate) fn binary() -> PathBuf {
    assert_cmd::cargo::cargo_bin("asterism")
}

#[allow(dead_code)] // of some test programs
/// `asterism ARGUMENTS` as `ranks` processes of this machine.
pub(crate) fn mpirun(ranks: usize, arguments: &[OsString]) -> Command {
    let mut command = Command::new("mpirun");
    command.args(["--oversubscribe", "--bind-to", "none", "-n", &ranks.to_string()]);
    command.arg(binary()).args(arguments);
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("ASTERISM_")) {
        command.env_remove(name);
    }
    command.env("OMPI_ALLOW_RUN_AS_ROOT", "1").env("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1");
    command
}

/// A job that runs.
pub(crate) struct Job {
    child: Child,
    mark: String,
}

/// What came of a job.
#[derive(Debug)]
pub(crate) struct Ended {
    /// The launcher's exit code; none if the time was over.
    pub(crate) code: Option<i32>,
    pub(crate) stderr: String,
    /// Processes that were there a second later.
    pub(crate) left: Vec<u32>,
}

impl Ended {
    pub(crate) fn success(&self) -> bool {
        self.code == Some(0)
    }
}

impl Job {
    pub(crate) fn start(command: &mut Command) -> Self {
        static JOBS: AtomicUsize = AtomicUsize::new(0);
        let number = JOBS.fetch_add(1, Ordering::Relaxed);
        let mark = format!("{}.{number}", std::process::id());
        let child = command
            .env(MARK, &mark)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("mpirun is installed");
        Self { child, mark }
    }

    /// Its processes, each with its rank; the launcher has none.
    fn processes(&self) -> Vec<(u32, Option<usize>)> {
        let all = std::fs::read_dir("/proc").expect("Linux");
        let ids = all.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok());
        ids.filter_map(|id| {
            let bytes = std::fs::read(format!("/proc/{id}/environ")).ok()?;
            let text = String::from_utf8_lossy(&bytes).into_owned();
            let value = |name: &str| {
                let value =
                    text.split('\0').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='));
                value.map(str::to_owned)
            };
            (value(MARK)? == self.mark).then(|| {
                let rank = value("OMPI_COMM_WORLD_RANK").or_else(|| value("RANK"));
                (id, rank.and_then(|rank| rank.parse().ok()))
            })
        })
        .collect()
    }

    fn of_rank(&self, rank: usize) -> Option<u32> {
        let processes = self.processes();
        processes.into_iter().find(|(_, of)| *of == Some(rank)).map(|(id, _)| id)
    }

    /// Waits until all of its ranks run.
    pub(crate) fn wait_for_ranks(&self, ranks: usize) {
        let end = Instant::now() + Duration::from_secs(20);
        while !(0..ranks).all(|rank| self.of_rank(rank).is_some()) {
            assert!(Instant::now() < end, "ranks are missing: {:?}", self.processes());
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Sends a signal to the process of `rank`.
    pub(crate) fn signal(&self, rank: usize, signal: &str) {
        let id = self.of_rank(rank).expect("the rank runs").to_string();
        let status = Command::new("kill").args(["-s", signal, &id]).status().expect("kill");
        assert!(status.success(), "{status}");
    }

    /// Waits for the end, at most for `time`, and looks who is left.
    pub(crate) fn wait(mut self, time: Duration) -> Ended {
        let mut pipe = self.child.stderr.take().expect("piped");
        let reader = std::thread::spawn(move || {
            let mut bytes = Vec::new();
            let _ = pipe.read_to_end(&mut bytes);
            String::from_utf8_lossy(&bytes).into_owned()
        });
        let end = Instant::now() + time;
        let status = loop {
            match self.child.try_wait().expect("wait") {
                Some(status) => break Some(status),
                None if Instant::now() > end => break None,
                None => std::thread::sleep(Duration::from_millis(20)),
            }
        };
        // Who is about to leave may.
        let soon = Instant::now() + Duration::from_secs(1);
        while !self.processes().is_empty() && Instant::now() < soon {
            std::thread::sleep(Duration::from_millis(20));
        }
        let left: Vec<u32> = self.processes().into_iter().map(|(id, _)| id).collect();
        for id in &left {
            let _ = Command::new("kill").args(["-s", "KILL", &id.to_string()]).status();
        }
        let _ = self.child.wait();
        let stderr = reader.join().expect("reader");
        Ended { code: status.and_then(|status| status.code()), stderr, left }
    }
}
