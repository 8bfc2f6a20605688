//! `ask --watch`: what changes is read and encoded again, and the question answered again.

use super::QUESTION;
use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;
use tempfile::TempDir;

/// A running `ask --watch`; it is killed when this is dropped.
struct Watching {
    child: Child,
    lines: Receiver<String>,
}

impl Watching {
    fn start(dir: &TempDir) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_asterism"))
            .args(["ask", "--watch", "--device", "cpu", "--block", "512", "--anchor", "128"])
            .args(["--max-tokens", "24", QUESTION, "-c"])
            .arg(dir.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("starts");
        let (tell, lines) = channel();
        let (out, err) = (child.stdout.take().expect("out"), child.stderr.take().expect("err"));
        let told = tell.clone();
        std::thread::spawn(move || forward(BufReader::new(out), &told));
        std::thread::spawn(move || forward(BufReader::new(err), &tell));
        Self { child, lines }
    }

    /// Waits for lines that have all of `words`, in any order, since they come over two pipes; what
    /// came before is returned with them.
    fn until(&self, words: &[&str]) -> String {
        let mut all = String::new();
        while !words.iter().all(|word| all.contains(word)) {
            let line = self.lines.recv_timeout(Duration::from_secs(60));
            all.push_str(&line.unwrap_or_else(|_| panic!("not all of {words:?} in {all}")));
            all.push('\n');
        }
        all
    }
}

fn forward(from: impl BufRead, tell: &std::sync::mpsc::Sender<String>) {
    for line in from.lines().map_while(Result::ok) {
        let _ = tell.send(line);
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn an_edit_of_one_file_encodes_only_its_blocks_and_answers_again() {
    let dir = TempDir::new().expect("dir");
    let prose = "The grass is green. The sky is blue. The sun is yellow. Here we go. ".repeat(30);
    for name in ["a.txt", "b.txt", "c.txt", "d.txt"] {
        fs::write(dir.path().join(name), &prose).expect("file");
    }
    let fact = |code: u32| format!("{prose}The access code for the Lisbon vault is {code}. ");
    fs::write(dir.path().join("c.txt"), fact(48213)).expect("file");
    let watching = Watching::start(&dir);
    watching.until(&["is 48213", "watching"]);

    fs::write(dir.path().join("c.txt"), fact(73904)).expect("file");
    let said = watching.until(&["is 73904", "watching"]);
    assert!(said.contains("changed: ") && said.contains("c.txt"), "{said}");
    // One file of four; the first block and those of the others stay.
    let anew = said.lines().find(|line| line.contains("encoded anew")).expect("blocks");
    let numbers: Vec<usize> = anew.split(' ').filter_map(|word| word.parse().ok()).collect();
    assert!(1 <= numbers[0] && numbers[0] * 2 < numbers[1], "{anew}");

    // A file that comes, and one that goes.
    fs::write(dir.path().join("e.txt"), "One more.").expect("file");
    fs::remove_file(dir.path().join("d.txt")).expect("file");
    let said = watching.until(&["new: ", "gone: ", "is 73904"]);
    assert!(said.contains("e.txt") && said.contains("d.txt"), "{said}");
}

#[test]
fn what_cannot_be_watched_is_refused() {
    let dir = TempDir::new().expect("dir");
    fs::write(dir.path().join("a.txt"), "One.").expect("file");
    let run = |args: &[&str]| {
        let mut command = super::asterism();
        command.args(["ask", "--watch", "-c"]).arg(dir.path()).args(args);
        super::fail(&mut command, 2)
    };
    assert!(run(&[]).contains("--watch needs a question"));
    assert!(run(&["-c", "-", "q"]).contains("standard input is read once"));
    assert!(run(&["--compare", "q"]).contains("--compare"));
}
