//! The binary as a command, in an environment of its own.

use assert_cmd::Command;

/// `asterism`, untouched by what the tester's shell has set.
pub(crate) fn asterism() -> Command {
    let mut command = Command::cargo_bin("asterism").expect("binary");
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("ASTERISM_")) {
        command.env_remove(name);
    }
    command.env("HF_HUB_OFFLINE", "1");
    command
}

/// Runs a command that must succeed; returns (stdout, stderr).
pub(crate) fn succeed(command: &mut Command) -> (String, String) {
    let output = command.assert().success().get_output().clone();
    (text(&output.stdout), text(&output.stderr))
}

/// Runs a command that must fail with `code`; returns stderr.
pub(crate) fn fail(command: &mut Command, code: i32) -> String {
    text(&command.assert().failure().code(code).get_output().stderr)
}

/// Output as text.
pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("UTF-8 output")
}
