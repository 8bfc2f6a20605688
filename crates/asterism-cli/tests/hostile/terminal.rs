//! What a terminal is given: nothing of somebody else's that it would obey.

use crate::case::nano;
use std::process::Command;
use tempfile::TempDir;

/// Runs the binary on a terminal of its own, by the means of Python, and returns all it was given.
fn on_terminal(args: &[&str], env: &[(&str, &str)]) -> String {
    const SCRIPT: &str = "import pty, sys; pty.spawn(sys.argv[1:])";
    let mut command = Command::new("python3");
    command.args(["-c", SCRIPT]).arg(assert_cmd::cargo::cargo_bin("asterism")).args(args);
    command.env("HF_HUB_OFFLINE", "1").env("TERM", "dumb").envs(env.iter().copied());
    let output = command.stdin(std::process::Stdio::null()).output().expect("python3");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn commands_in_names_values_and_messages_are_shown() {
    const EVIL: &str = "evil\u{1b}]0;x\u{7}\u{9b}31m";
    let dir = TempDir::new().expect("dir");
    let model = dir.path().join("model");
    std::fs::create_dir(&model).expect("folder");
    for entry in std::fs::read_dir(nano()).expect("nano") {
        let path = entry.expect("entry").path();
        std::os::unix::fs::symlink(&path, model.join(path.file_name().expect("name")))
            .expect("link");
    }
    let doc = dir.path().join("doc.txt");
    std::fs::write(&doc, "The sky is blue.").expect("document");
    let (model, doc) = (model.to_str().expect("UTF-8"), doc.to_str().expect("UTF-8"));
    let put = |file: &str, text: String| {
        let path = format!("{model}/{file}");
        let _ = std::fs::remove_file(&path);
        std::fs::write(path, text).expect("file");
    };
    let ask = || on_terminal(&["ask", "-c", doc, "-m", model, "--device", "cpu", "q"], &[]);
    let missing = format!("{model}/{EVIL}");
    let mut shown = vec![
        on_terminal(&["ask", "-c", &missing, "q"], &[]),
        on_terminal(&["ask", "-c", doc, "-m", &missing, "q"], &[]),
        on_terminal(&["ask", "-c", doc, "q"], &[("ASTERISM_DEVICE", EVIL)]),
        on_terminal(&["ask", "--help"], &[("ASTERISM_MODEL", EVIL)]),
    ];
    put("chat_template.jinja", format!("{{{{ raise_exception('{EVIL}') }}}}"));
    shown.push(ask());
    put("chat_template.jinja", format!("{{% {EVIL} %}}"));
    shown.push(ask());
    let config = std::fs::read_to_string(nano().join("config.json")).expect("config");
    let escaped = serde_json::to_string(EVIL).expect("JSON");
    put("config.json", config.replace("\"LlamaForCausalLM\"", &escaped));
    shown.push(ask());
    for text in shown {
        assert!(text.contains("evil"), "{text:?}");
        let obeyed = text.replace("\r\n", "\n").replace(['\n', '\t'], "");
        // Our own colours and bars begin with a bracket; a title and a C1 control do not.
        assert!(!obeyed.contains(['\u{7}', '\u{9b}']) && !obeyed.contains("\u{1b}]"), "{text:?}");
    }
}
