//! Fetching from a Hub that is strict, broken or absent, which a small HTTP server plays.

#![allow(clippy::unwrap_used)]

mod server;

use std::fs;
use std::net::TcpListener;
use std::sync::{Arc, Mutex};

use asterism::model::{Checkpoint, FetchOptions, ModelError, ModelFiles, ModelSource};

use server::{COMMIT, Hub, REPO, Server};

fn fetch(source: &str, options: &FetchOptions) -> Result<ModelFiles, ModelError> {
    source.parse::<ModelSource>()?.resolve(options)
}

#[track_caller]
fn assert_says(result: Result<ModelFiles, ModelError>, phrases: &[&str]) {
    let text = result.unwrap_err().to_string();
    for phrase in phrases {
        assert!(text.contains(phrase), "{phrase:?} is not in: {text}");
    }
}

#[test]
fn a_repository_is_fetched_wrongly() {
    let hub = Hub::sound();
    let server = hub.clone().start();
    let cache = tempfile::tempdir().unwrap();
    let files = fetch(REPO, &server.options(cache.path())).unwrap();

    assert_eq!(files.name, REPO);
    assert_eq!(files.config, hub.files["config.json"]);
    assert_eq!(files.tokenizer, hub.files["tokenizer.json"]);
    assert_eq!(files.generation_config.as_ref(), hub.files.get("generation_config.json"));
    assert_eq!(files.tokenizer_config.as_ref(), hub.files.get("tokenizer_config.json"));
    assert_eq!(files.chat_template.as_deref(), Some("{{ messages }}"));
    let names: Vec<_> = files.weights.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["1.safetensors", "2.safetensors"]);
    let weights = Checkpoint::open(files.weights, files.weight_index.as_deref()).unwrap();
    assert_eq!(weights.tensor("b", &[2]).unwrap().to_f32(), [0.0, 0.0]);

    let requests = server.requests();
    for unwanted in ["README.md", "pytorch_model.bin", "consolidated.safetensors"] {
        assert!(!requests.iter().any(|line| line.contains(unwanted)), "{requests:#?}");
    }
    assert!(requests.iter().all(|line| line.contains("Bearer hf_test")), "{requests:#?}");
    // Everything but config.json comes from the one commit.
    let loose: Vec<_> = requests.iter().filter(|line| line.contains("/resolve/main/")).collect();
    assert!(loose.iter().all(|line| line.contains("config.json")), "{requests:#?}");

    // The second time, only what may have changed is asked for, and nothing is downloaded.
    fetch(REPO, &server.options(cache.path())).unwrap();
    let again = server.requests();
    assert_eq!(again.len(), 2, "{again:#?}");
    assert!(again[0].starts_with("GET /api/models/org/tiny"), "{again:#?}");
    assert!(again[1].starts_with("HEAD /org/tiny/resolve/main/config.json"), "{again:#?}");
}

#[test]
fn a_single_weight_file_is_not_found() {
    let mut hub = Hub::sound().without("model.safetensors.index.json");
    let content = hub.files["1.safetensors"].clone();
    hub.files.insert("model.safetensors".into(), content);
    let cache = tempfile::tempdir().unwrap();
    let files = fetch(&format!("{REPO}@v1"), &hub.start().options(cache.path())).unwrap();
    assert_eq!((files.name.as_str(), files.weights.len()), ("org/tiny@v1", 1));
    assert!(files.weight_index.is_none());
}

#[test]
fn a_download_reports_nothing() {
    let server = Hub::sound().start();
    let cache = tempfile::tempdir().unwrap();
    let calls = Arc::new(Mutex::new(Vec::new()));
    let written = Arc::clone(&calls);
    let options = FetchOptions {
        progress: Some(Arc::new(move |file: &str, done: u64, total: u64| {
            written.lock().unwrap().push((file.to_owned(), done, total));
        })),
        ..server.options(cache.path())
    };
    let files = fetch(REPO, &options).unwrap();
    let calls = calls.lock().unwrap();
    for (name, bytes) in &files.weights {
        let mut last = 0;
        for (_, done, total) in calls.iter().filter(|(file, ..)| file == name) {
            assert!(*done >= last && *total == bytes.len() as u64, "{calls:?}");
            last = *done;
        }
        assert_eq!(last, bytes.len() as u64, "{name}: {calls:?}");
    }
}

#[test]
fn offline_mode_needs_the_network() {
    let server = Hub::sound().start();
    let cache = tempfile::tempdir().unwrap();
    let mut options = server.options(cache.path());
    options.offline = true;
    let place = cache.path().display().to_string();
    let help = "run once without --offline";
    assert_says(fetch(REPO, &options), &[REPO, "config.json", "local cache", &place, help]);

    fetch(REPO, &server.options(cache.path())).unwrap();
    server.requests();
    for source in [REPO, &format!("{REPO}@{COMMIT}")] {
        let files = fetch(source, &options).unwrap();
        assert_eq!((files.name.as_str(), files.weights.len()), (source, 2));
    }
    // A revision that was never fetched is not taken from another one.
    assert_says(fetch("org/tiny@v1", &options), &["org/tiny@v1", "config.json", help]);

    let snapshot = cache.path().join("models--org--tiny/snapshots").join(COMMIT);
    fs::remove_file(snapshot.join("2.safetensors")).unwrap();
    assert_says(fetch(REPO, &options), &["2.safetensors is not in the local cache", help]);
    assert!(server.requests().is_empty());
}

#[test]
fn a_missing_repository_is_taken_for_a_missing_file() {
    let server = Hub::sound().start();
    let cache = tempfile::tempdir().unwrap();
    let options = server.options(cache.path());
    for source in ["org/other", "org/other@v1"] {
        let phrases = ["org/other: no such model repository", &server.address, "spelling"];
        assert_says(fetch(source, &options), &phrases);
    }
    assert_says(fetch("org/tiny@v2", &options), &["no branch, tag or commit named `v2`"]);
}

#[test]
fn an_incomplete_repository_is_downloaded_first() {
    let cases = [
        (Hub::sound().without("config.json"), "org/tiny: no config.json"),
        (Hub::sound().without("tokenizer.json"), "org/tiny: no tokenizer.json"),
        (Hub::sound().without("model.safetensors.index.json"), "pickles (pytorch_model.bin)"),
        (
            Hub::sound().without("model.safetensors.index.json").without("pytorch_model.bin"),
            "no model.safetensors or model.safetensors.index.json",
        ),
        (Hub::sound().without("2.safetensors"), "org/tiny: no 2.safetensors"),
    ];
    for (hub, phrase) in cases {
        let server = hub.start();
        let cache = tempfile::tempdir().unwrap();
        assert_says(fetch(REPO, &server.options(cache.path())), &[phrase]);
        let weights = server.requests();
        let fetched = weights.iter().any(|line| line.contains(".safetensors "));
        assert!(!fetched, "{phrase}: {weights:#?}");
    }
}

#[test]
fn a_gated_repository_is_called_missing() {
    let cases: [(u16, &[&str]); 2] = [
        (401, &["org/tiny", "401", "gated", "HF_TOKEN"]),
        (403, &["403", "/org/tiny and accept its conditions", "HF_TOKEN"]),
    ];
    for (status, phrases) in cases {
        for everything in [false, true] {
            let refuse = Some((status, everything));
            let server = Hub { refuse, ..Hub::sound() }.start();
            let cache = tempfile::tempdir().unwrap();
            assert_says(fetch(REPO, &server.options(cache.path())), phrases);
        }
    }
}

#[test]
fn an_unreachable_hub_is_called_a_missing_repository() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let cache = tempfile::tempdir().unwrap();
    let server = Server { address: endpoint.clone(), log: Arc::default() };
    let result = fetch(REPO, &server.options(cache.path()));
    assert_says(result, &["org/tiny: cannot reach", &endpoint, "--offline", "HF_HUB_OFFLINE=1"]);
}

#[test]
fn an_endpoint_that_is_no_address_is_used() {
    let cache = tempfile::tempdir().unwrap();
    let server = Server { address: "huggingface".into(), log: Arc::default() };
    assert_says(fetch(REPO, &server.options(cache.path())), &["HF_ENDPOINT", "huggingface"]);
}

#[test]
fn an_error_page_stays_in_the_cache_as_weights() {
    let server = Hub { broken: Some("1.safetensors"), ..Hub::sound() }.start();
    let cache = tempfile::tempdir().unwrap();
    let result = fetch(REPO, &server.options(cache.path()));
    assert_says(result, &["1.safetensors", "18 bytes instead of", "deleted", "run again"]);
    // Once the Hub is well again, so is the model.
    let files = fetch(REPO, &Hub::sound().start().options(cache.path())).unwrap();
    assert!(Checkpoint::open(files.weights, files.weight_index.as_deref()).is_ok());
}

#[test]
fn two_versions_are_mixed() {
    let server = Hub { moved: true, ..Hub::sound() }.start();
    let cache = tempfile::tempdir().unwrap();
    let result = fetch(REPO, &server.options(cache.path()));
    assert_says(result, &["changed", COMMIT, "run again"]);
}
