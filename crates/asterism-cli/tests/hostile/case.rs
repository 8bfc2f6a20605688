//! One run of the binary on bad input, and what may not come of it.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// The longest that a run on small files may take.
const LONGEST: Duration = Duration::from_secs(60);
/// Memory that a run may take beyond its files.
const MEMORY: u64 = 500 << 20;

/// What stands at a path of a case's folder.
pub(crate) enum Entry {
    Bytes(Vec<u8>),
    /// Bytes of its own, and then those that many cases share.
    Before(Vec<u8>, Arc<[u8]>),
    /// A link to a file or a device.
    Link(PathBuf),
    /// Zeros that take no room.
    Sparse(u64),
    Pipe,
    Folder,
}

/// What is true of an outcome.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Expect {
    /// An error: an answer would be believed and false.
    Refused,
    /// An answer.
    Accepted,
    /// Either.
    Either,
}

/// One case. In arguments `{}` stands for its folder.
pub(crate) struct Case {
    pub(crate) class: &'static str,
    pub(crate) name: String,
    pub(crate) entries: Vec<(String, Entry)>,
    pub(crate) args: Vec<String>,
    pub(crate) expect: Expect,
    /// Words of the error.
    pub(crate) says: Vec<String>,
    /// Where standard output goes, if not to us.
    pub(crate) stdout: Option<PathBuf>,
    pub(crate) stderr: Option<PathBuf>,
    /// Memory, in bytes, that the command takes where nothing is wrong.
    pub(crate) takes: u64,
    /// Paths that must hold afterwards what they held before.
    pub(crate) untouched: Vec<String>,
}

impl Case {
    pub(crate) fn new(class: &'static str, name: impl Into<String>, args: &[&str]) -> Self {
        Self {
            class,
            name: name.into(),
            entries: Vec::new(),
            args: args.iter().map(|arg| (*arg).to_owned()).collect(),
            expect: Expect::Either,
            says: Vec::new(),
            stdout: None,
            stderr: None,
            takes: 0,
            untouched: Vec::new(),
        }
    }

    /// A question about a short document to nano, in which some files are others.
    pub(crate) fn ask(class: &'static str, name: impl Into<String>) -> Self {
        let mut case = Self::new(
            class,
            name,
            &[
                "ask",
                "-c",
                "{}/doc.txt",
                "-m",
                "{}/model",
                "--max-tokens",
                "2",
                "--device",
                "cpu",
                "q",
            ],
        );
        let nano = nano();
        for entry in fs::read_dir(&nano).expect("nano") {
            let path = entry.expect("entry").path();
            let name = path.file_name().expect("name").to_string_lossy().into_owned();
            case.entries.push((format!("model/{name}"), Entry::Link(path)));
        }
        case.with(
            "doc.txt",
            Entry::Bytes(b"The sky is blue. aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaab".to_vec()),
        )
    }

    /// Puts `entry` at `path`, in place of what was there.
    pub(crate) fn with(mut self, path: &str, entry: Entry) -> Self {
        self.entries.retain(|(other, _)| other != path);
        self.entries.push((path.to_owned(), entry));
        self
    }

    pub(crate) fn bytes(self, path: &str, bytes: impl Into<Vec<u8>>) -> Self {
        self.with(path, Entry::Bytes(bytes.into()))
    }

    pub(crate) fn takes(mut self, bytes: u64) -> Self {
        self.takes = bytes;
        self
    }

    pub(crate) fn expect(mut self, expect: Expect) -> Self {
        self.expect = expect;
        self
    }

    pub(crate) fn refused(self, says: &[&str]) -> Self {
        let mut case = self.expect(Expect::Refused);
        case.says = says.iter().map(|word| (*word).to_owned()).collect();
        case
    }

    /// Runs the case and returns what is wrong with the outcome.
    pub(crate) fn run(&self) -> Outcome {
        let dir = TempDir::new().expect("folder");
        let mut size = 0;
        for (path, entry) in &self.entries {
            size += lay(&dir.path().join(path), entry);
        }
        let before: Vec<_> =
            self.untouched.iter().map(|path| fs::read(dir.path().join(path)).ok()).collect();
        let folder = dir.path().to_str().expect("UTF-8");
        let mut command = Command::new(binary());
        command.args(self.args.iter().map(|arg| arg.replace("{}", folder)));
        for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("ASTERISM_")) {
            command.env_remove(name);
        }
        let to = |path: &Option<PathBuf>, piped: bool| match path {
            Some(path) => File::options().write(true).open(path).expect("output").into(),
            None if piped => Stdio::piped(),
            None => Stdio::null(),
        };
        command.env("HF_HUB_OFFLINE", "1").stdin(Stdio::null());
        command.stdout(to(&self.stdout, false)).stderr(to(&self.stderr, true));
        let watched = watch(command.spawn().expect("start"));
        let mut outcome = self.judge(watched, size);
        for (path, before) in self.untouched.iter().zip(before) {
            if fs::read(dir.path().join(path)).ok() != before {
                outcome.faults.push(("data lost", path.clone()));
            }
        }
        outcome
    }

    fn judge(&self, run: Watched, size: u64) -> Outcome {
        let mut faults = Vec::new();
        let message = String::from_utf8_lossy(&run.stderr).into_owned();
        if run.late {
            faults.push(("hang", format!("{:?}", run.time)));
        } else if run.code.is_none() {
            faults.push(("abort", message.clone()));
        }
        if message.contains("panicked at") || run.code == Some(101) {
            faults.push(("panic", message.clone()));
        }
        if run.memory > size + self.takes + MEMORY {
            faults.push(("memory", format!("{} MB", run.memory >> 20)));
        }
        let failed = run.code != Some(0);
        match self.expect {
            Expect::Refused if !failed => faults.push(("accepted lie", message.clone())),
            Expect::Accepted if failed => faults.push(("refused truth", message.clone())),
            _ => {}
        }
        let wordless = failed && self.stderr.is_none() && message.trim().is_empty();
        let missing = self.says.iter().find(|word| failed && !message.contains(*word));
        if wordless || missing.is_some() {
            faults.push(("wrong words", format!("{missing:?} in {message}")));
        }
        Outcome { faults, time: run.time, memory: run.memory }
    }
}

/// What is wrong, by kind, and what it took.
pub(crate) struct Outcome {
    pub(crate) faults: Vec<(&'static str, String)>,
    pub(crate) time: Duration,
    pub(crate) memory: u64,
}

struct Watched {
    code: Option<i32>,
    late: bool,
    time: Duration,
    memory: u64,
    stderr: Vec<u8>,
}

/// Waits for a run, looks at its memory meanwhile, and ends it when it is late.
fn watch(mut child: Child) -> Watched {
    let start = Instant::now();
    let reader = child.stderr.take().map(|mut pipe| {
        std::thread::spawn(move || {
            let mut bytes = Vec::new();
            let _ = pipe.by_ref().take(1 << 20).read_to_end(&mut bytes);
            let _ = std::io::copy(&mut pipe, &mut std::io::sink());
            bytes
        })
    });
    let (mut memory, mut late) = (0, false);
    let status = loop {
        memory = memory.max(peak(child.id()));
        if let Some(status) = child.try_wait().expect("wait") {
            break status;
        }
        if start.elapsed() > LONGEST && !late {
            late = true;
            child.kill().expect("kill");
        }
        std::thread::sleep(Duration::from_millis(5));
    };
    let stderr = reader.map(|thread| thread.join().expect("stderr")).unwrap_or_default();
    Watched { code: status.code(), late, time: start.elapsed(), memory, stderr }
}

/// The most memory of a process so far, in bytes; 0 where the system does not say.
fn peak(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kilobytes = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok());
    kilobytes.unwrap_or(0) << 10
}

/// Makes an entry; returns its bytes.
fn lay(path: &Path, entry: &Entry) -> u64 {
    fs::create_dir_all(path.parent().expect("folder")).expect("folder");
    match entry {
        Entry::Bytes(bytes) => {
            fs::write(path, bytes).expect("file");
            bytes.len() as u64
        }
        Entry::Before(own, shared) => {
            let mut file = File::create(path).expect("file");
            file.write_all(own).and_then(|()| file.write_all(shared)).expect("file");
            (own.len() + shared.len()) as u64
        }
        Entry::Link(to) => {
            std::os::unix::fs::symlink(to, path).expect("link");
            to.metadata().map_or(0, |about| about.len())
        }
        Entry::Sparse(size) => {
            File::create(path).expect("file").set_len(*size).expect("size");
            0
        }
        Entry::Pipe => {
            assert!(Command::new("mkfifo").arg(path).status().expect("mkfifo").success());
            0
        }
        Entry::Folder => {
            fs::create_dir(path).expect("folder");
            0
        }
    }
}

/// The built-in model as a folder.
pub(crate) fn nano() -> PathBuf {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models/nano");
    path.canonicalize().expect("nano")
}

fn binary() -> PathBuf {
    std::env::var_os("HOSTILE_BINARY")
        .map_or_else(|| assert_cmd::cargo::cargo_bin("asterism"), PathBuf::from)
}

/// Runs cases two at a time and returns the faults, after a table of figures by class.
pub(crate) fn run_all(cases: &[Case]) -> Vec<String> {
    let next = std::sync::atomic::AtomicUsize::new(0);
    let outcomes = std::sync::Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                loop {
                    let at = next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                    let Some(case) = cases.get(at) else { break };
                    let outcome = case.run();
                    outcomes.lock().expect("outcomes").push((case, outcome));
                }
            });
        }
    });
    let mut classes: BTreeMap<&str, Vec<&Outcome>> = BTreeMap::new();
    let outcomes = outcomes.into_inner().expect("outcomes");
    for (case, outcome) in &outcomes {
        classes.entry(case.class).or_default().push(outcome);
    }
    println!("{:<22} {:>6} {:>7} {:>10} {:>10}", "class", "cases", "faults", "longest", "memory");
    for (class, outcomes) in classes {
        let faults: usize = outcomes.iter().map(|outcome| outcome.faults.len()).sum();
        let longest = outcomes.iter().map(|outcome| outcome.time).max().unwrap_or_default();
        let memory = outcomes.iter().map(|outcome| outcome.memory).max().unwrap_or_default() >> 20;
        let count = outcomes.len();
        println!(
            "{class:<22} {count:>6} {faults:>7} {:>8.1} s {memory:>7} MB",
            longest.as_secs_f64()
        );
    }
    let shown = |(case, outcome): &(&Case, Outcome)| {
        let words = |(kind, words): &(&str, String)| {
            let words: String = words.chars().take(300).collect();
            format!("{}: {}: {kind}: {words}", case.class, case.name)
        };
        outcome.faults.iter().map(words).collect::<Vec<_>>()
    };
    outcomes.iter().flat_map(shown).collect()
}
