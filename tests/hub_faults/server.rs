//! A Hub of one repository: a small HTTP server in this process, with the routes that the client
//! uses, the repository's description (`/api/models/{id}[/revision/{revision}]`) and its files
//! (`/{id}/resolve/{revision}/{file}`).

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::thread;

use asterism::model::FetchOptions;

/// The repository's id.
pub(crate) const REPO: &str = "org/tiny";
/// Its only commit.
pub(crate) const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

/// What the server does beside serving files.
#[derive(Clone, Default)]
pub(crate) struct Hub {
    pub(crate) files: BTreeMap<String, Vec<u8>>,
    /// Requests for files get this status; so do those for the description if the flag is set.
    pub(crate) refuse: Option<(u16, bool)>,
    /// Downloads (not the request for their length) of this file get an error page.
    pub(crate) broken: Option<&'static str>,
    /// The description tells another commit than the files.
    pub(crate) moved: bool,
}

/// A running server. It lives as long as the test process.
pub(crate) struct Server {
    pub(crate) address: String,
    pub(crate) log: Arc<Mutex<Vec<String>>>,
}

impl Hub {
    /// A whole repository in two shards, with files that must not be fetched.
    pub(crate) fn sound() -> Self {
        let mut hub = Self::default();
        for entry in fs::read_dir("models/nano").unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap().to_owned();
            if !name.ends_with(".safetensors") {
                hub.files.insert(name, fs::read(path).unwrap());
            }
        }
        let tensor = |name: &str| {
            let header =
                format!(r#"{{"{name}":{{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}}}"#);
            let mut file = (header.len() as u64).to_le_bytes().to_vec();
            file.extend_from_slice(header.as_bytes());
            file.extend_from_slice(&[0; 8]);
            file
        };
        let index = r#"{"weight_map": {"a": "1.safetensors", "b": "2.safetensors"}}"#;
        for (name, content) in [
            ("model.safetensors.index.json", index.into()),
            ("1.safetensors", tensor("a")),
            ("2.safetensors", tensor("b")),
            ("chat_template.jinja", "{{ messages }}".into()),
            ("consolidated.safetensors", b"the weights once more".to_vec()),
            ("pytorch_model.bin", b"pickle".to_vec()),
            ("README.md", b"# Tiny".to_vec()),
        ] {
            hub.files.insert(name.into(), content);
        }
        hub
    }

    pub(crate) fn without(mut self, file: &str) -> Self {
        self.files.remove(file).unwrap();
        self
    }

    pub(crate) fn start(self) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let log = Arc::new(Mutex::new(Vec::new()));
        let (hub, written) = (Arc::new(self), Arc::clone(&log));
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (hub, log) = (Arc::clone(&hub), Arc::clone(&written));
                // A client may close a connection at any time: that ends the thread, no more.
                thread::spawn(move || while hub.answer(&stream, &log).is_some() {});
            }
        });
        Server { address, log }
    }

    /// Answers one request of a connection; `None` at its end.
    fn answer(&self, mut stream: &TcpStream, log: &Mutex<Vec<String>>) -> Option<()> {
        let mut lines = BufReader::new(stream).lines();
        let request = lines.next()?.ok()?;
        let headers: Vec<String> =
            lines.map_while(Result::ok).take_while(|line| !line.is_empty()).collect();
        let token = headers.iter().find(|line| line.to_lowercase().starts_with("authorization:"));
        let line = format!("{request} {}", token.map_or("", String::as_str));
        log.lock().unwrap().push(line);
        let (method, target) = request.split_once(' ')?;
        let path = target.split([' ', '?']).next()?;
        let (status, extra, body) = self.respond(method, path);
        let length = body.len();
        let head = format!("HTTP/1.1 {status} x\r\nContent-Length: {length}\r\n{extra}\r\n");
        stream.write_all(head.as_bytes()).ok()?;
        if method != "HEAD" {
            stream.write_all(&body).ok()?;
        }
        Some(())
    }

    fn respond(&self, method: &str, path: &str) -> (u16, String, Vec<u8>) {
        let not_found = |code: &str| (404, format!("X-Error-Code: {code}\r\n"), b"no".to_vec());
        let description = path.strip_prefix("/api/models/");
        match self.refuse {
            Some((status, everything)) if everything || description.is_none() => {
                return (status, String::new(), b"refused".to_vec());
            }
            _ => {}
        }
        if let Some(rest) = description {
            let Some(revision) = rest.strip_prefix(REPO) else {
                return not_found("RepoNotFound");
            };
            if !["", "/revision/v1", &format!("/revision/{COMMIT}")].contains(&revision) {
                return not_found("RevisionNotFound");
            }
            let sha = if self.moved { COMMIT.replace('0', "f") } else { COMMIT.to_owned() };
            let names: Vec<_> =
                self.files.keys().map(|name| serde_json::json!({"rfilename": name})).collect();
            let body = serde_json::json!({"id": REPO, "sha": sha, "siblings": names});
            return (200, String::new(), body.to_string().into_bytes());
        }
        let file = path
            .strip_prefix(&format!("/{REPO}/resolve/"))
            .and_then(|rest| rest.split_once('/'))
            .map(|(_, file)| file);
        let Some((name, content)) = file.and_then(|file| self.files.get_key_value(file)) else {
            return not_found("EntryNotFound");
        };
        if method == "GET" && self.broken == Some(name.as_str()) {
            return (404, String::new(), b"<html>Sorry</html>".to_vec());
        }
        let extra = format!("ETag: \"tag-{name}\"\r\nX-Repo-Commit: {COMMIT}\r\n");
        (200, extra, content.clone())
    }
}

impl Server {
    pub(crate) fn options(&self, cache: &Path) -> FetchOptions {
        FetchOptions {
            endpoint: Some(self.address.clone()),
            cache_dir: Some(cache.into()),
            token: Some("hf_test".into()),
            ..FetchOptions::default()
        }
    }

    /// The log since the last call.
    pub(crate) fn requests(&self) -> Vec<String> {
        std::mem::take(&mut *self.log.lock().unwrap())
    }
}
