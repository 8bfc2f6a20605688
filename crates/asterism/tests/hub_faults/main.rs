//! Fetching from a Hub that is strict, broken or absent, which a small HTTP server plays.

#![allow(clippy::unwrap_used)]

mod server;

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};

use asterism::model::{Checkpoint, FetchOptions, ModelError, ModelFiles, ModelSource};

use server::{Broken, COMMIT, Hub, REPO, Server};

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
fn a_repository_is_fetched_once_from_one_commit_and_no_more_than_needed() {
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
    // The token goes to the Hub, and to no other host.
    for line in &requests {
        assert_eq!(line.contains("Bearer hf_test"), !line.contains(" /cdn/"), "{requests:#?}");
    }
    assert!(requests.iter().any(|line| line.contains("GET /cdn/1.safetensors")), "{requests:#?}");
    // Everything comes from the one commit.
    let mut loose = requests.iter().filter(|line| line.contains("/resolve/"));
    assert!(loose.all(|line| line.contains(COMMIT)), "{requests:#?}");

    // The second time, only the commit is asked for.
    fetch(REPO, &server.options(cache.path())).unwrap();
    let again = server.requests();
    assert_eq!(again.len(), 1, "{again:#?}");
    assert!(again[0].starts_with("GET /api/models/org/tiny"), "{again:#?}");
}

#[test]
fn a_single_weight_file_needs_no_index() {
    let mut hub = Hub::sound().without("model.safetensors.index.json");
    let content = hub.files["1.safetensors"].clone();
    hub.files.insert("model.safetensors".into(), content);
    let cache = tempfile::tempdir().unwrap();
    let files = fetch(&format!("{REPO}@v1"), &hub.start().options(cache.path())).unwrap();
    assert_eq!((files.name.as_str(), files.weights.len()), ("org/tiny@v1", 1));
    assert!(files.weight_index.is_none());
}

#[test]
fn who_only_plans_downloads_no_weights() {
    let server = Hub::sound().start();
    let cache = tempfile::tempdir().unwrap();
    let options = FetchOptions { without_weights: true, ..server.options(cache.path()) };
    let files = fetch(REPO, &options).unwrap();
    assert!(files.weights.is_empty() && files.weight_index.is_none());
    let requests = server.requests();
    assert!(!requests.iter().any(|request| request.contains("safetensors")), "{requests:#?}");
    // Offline, the cache is not taken for whole.
    let offline = FetchOptions { offline: true, ..server.options(cache.path()) };
    assert_says(fetch(REPO, &offline), &["local cache"]);
    assert_eq!(fetch(REPO, &server.options(cache.path())).unwrap().weights.len(), 2);
}

#[test]
fn a_download_reports_its_bytes_up_to_the_last() {
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
fn offline_mode_uses_the_cache_alone() {
    let server = Hub::sound().start();
    let cache = tempfile::tempdir().unwrap();
    let mut options = server.options(cache.path());
    options.offline = true;
    let place = cache.path().display().to_string();
    let help = "leave offline mode once";
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
fn a_missing_repository_and_a_missing_revision_are_told_apart() {
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
fn an_incomplete_repository_is_refused_before_its_weights_are_fetched() {
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
fn a_gated_repository_asks_for_a_token() {
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
fn an_unreachable_hub_is_named_and_the_cache_offered() {
    // The near end of a connection: its port is taken, so that no other test's Hub gets it, and
    // nobody listens there.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let endpoint = format!("http://{}", taken.local_addr().unwrap());
    let cache = tempfile::tempdir().unwrap();
    let nobody = Server { address: endpoint.clone(), log: Arc::default() };
    let unreachable = "org/tiny: cannot reach";
    let result = fetch(REPO, &nobody.options(cache.path()));
    assert_says(result, &[unreachable, &endpoint, "check the network", "does not hold the model"]);
    // Where the cache suffices, the message says how to use it.
    fetch(REPO, &Hub::sound().start().options(cache.path())).unwrap();
    let result = fetch(REPO, &nobody.options(cache.path()));
    assert_says(result, &[unreachable, &endpoint, "offline mode", "HF_HUB_OFFLINE=1"]);
    let result = fetch("org/tiny@v1", &nobody.options(cache.path()));
    assert_says(result, &[unreachable, "does not hold the model"]);
}

#[test]
fn an_endpoint_that_is_no_address_is_refused() {
    let cache = tempfile::tempdir().unwrap();
    for address in ["huggingface", "ftp://huggingface.co", "https://", "https//huggingface.co"] {
        let server = Server { address: address.into(), log: Arc::default() };
        assert_says(fetch(REPO, &server.options(cache.path())), &["HF_ENDPOINT", address]);
    }
}

#[test]
fn an_error_page_is_never_kept_as_weights() {
    let cases: [(u16, &[&str]); 3] = [
        (200, &["1.safetensors", "18 bytes instead of", "deleted", "run again"]),
        (404, &["no 1.safetensors"]),
        (502, &["fetching 1.safetensors", "failed"]),
    ];
    for (status, phrases) in cases {
        let broken = Some(("1.safetensors", Broken::Page(status)));
        let server = Hub { broken, ..Hub::sound() }.start();
        let cache = tempfile::tempdir().unwrap();
        assert_says(fetch(REPO, &server.options(cache.path())), phrases);
        // Once the Hub is well again, so is the model.
        let files = fetch(REPO, &Hub::sound().start().options(cache.path())).unwrap();
        assert!(Checkpoint::open(files.weights, files.weight_index.as_deref()).is_ok());
    }
}

#[test]
fn a_broken_download_goes_on_where_it_was() {
    let broken = Some(("1.safetensors", Broken::Cut(40)));
    let hub = Hub { broken, ..Hub::sound() };
    let server = hub.clone().start();
    let cache = tempfile::tempdir().unwrap();
    let files = fetch(REPO, &server.options(cache.path())).unwrap();
    assert_eq!(files.weights[0].1.as_ref(), hub.files["1.safetensors"]);
    let requests = server.requests();
    let rest = |line: &&String| line.contains("/cdn/1.safetensors") && line.contains("bytes=40-");
    assert_eq!(requests.iter().filter(rest).count(), 1, "{requests:#?}");
}

#[test]
fn a_whole_file_is_not_taken_for_the_rest_of_a_download() {
    // A server that sends everything when asked for the rest.
    let broken = Some(("1.safetensors", Broken::CutWhole(40)));
    let cache = tempfile::tempdir().unwrap();
    let result = fetch(REPO, &Hub { broken, ..Hub::sound() }.start().options(cache.path()));
    assert_says(result, &["org/tiny: cannot reach"]);
    // It kept the start. Leftovers that are longer than the file are of no use.
    let hub = Hub::sound();
    let blobs = cache.path().join("models--org--tiny/blobs");
    let left = fs::read_dir(&blobs).unwrap().map(|entry| entry.unwrap().path());
    let left = left.filter(|path| path.extension().is_some()).collect::<Vec<_>>();
    let [left] = left.as_slice() else { panic!("{left:?}") };
    assert_eq!(fs::read(left).unwrap(), hub.files["1.safetensors"][..40]);
    fs::write(left, [1; 1000]).unwrap();
    let files = fetch(REPO, &hub.clone().start().options(cache.path())).unwrap();
    assert_eq!(files.weights[0].1.as_ref(), hub.files["1.safetensors"]);
}

#[test]
fn a_busy_hub_is_asked_again() {
    let hub = Hub::sound();
    hub.busy.store(3, Ordering::Relaxed);
    let server = hub.start();
    let cache = tempfile::tempdir().unwrap();
    fetch(REPO, &server.options(cache.path())).unwrap();
}

#[test]
fn unchanged_weights_are_not_downloaded_again() {
    let cache = tempfile::tempdir().unwrap();
    fetch(REPO, &Hub::sound().start().options(cache.path())).unwrap();
    let mut hub = Hub { commit: COMMIT.replace('0', "9"), ..Hub::sound() };
    hub.files.insert("chat_template.jinja".into(), b"{{ changed }}".to_vec());
    let server = hub.clone().start();
    let mut options = server.options(cache.path());
    let files = fetch(REPO, &options).unwrap();
    assert_eq!(files.chat_template.as_deref(), Some("{{ changed }}"));
    let requests = server.requests();
    assert!(!requests.iter().any(|line| line.contains("/cdn/")), "{requests:#?}");
    // Both commits are there, and the branch is at the new one.
    options.offline = true;
    assert_eq!(fetch(REPO, &options).unwrap().chat_template, files.chat_template);
    let old = fetch(&format!("{REPO}@{COMMIT}"), &options).unwrap();
    assert_eq!(old.chat_template.as_deref(), Some("{{ messages }}"));
}

#[test]
fn a_revision_is_escaped_in_addresses() {
    let server = Hub::sound().start();
    let cache = tempfile::tempdir().unwrap();
    fetch("org/tiny@a/b#1", &server.options(cache.path())).unwrap();
    let requests = server.requests();
    assert!(
        requests[0].starts_with("GET /api/models/org/tiny/revision/a%2Fb%231 "),
        "{requests:#?}"
    );
}

#[test]
fn two_versions_are_never_mixed() {
    let server = Hub { moved: true, ..Hub::sound() }.start();
    let cache = tempfile::tempdir().unwrap();
    let result = fetch(REPO, &server.options(cache.path()));
    assert_says(result, &["changed", COMMIT, "run again"]);
}
