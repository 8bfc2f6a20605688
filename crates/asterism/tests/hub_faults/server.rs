//! A Hub of one repository: a small HTTP server in this process, with the routes that the client
//! uses, the repository's description (`/api/models/{id}[/revision/{revision}]`) and its files
//! (`/{id}/resolve/{revision}/{file}`). As on the real one, small files may be elsewhere on the
//! same host (here the tokenizer), and weights are on another (here the same server, whose name
//! is then `localhost`).

use std::collections::BTreeMap;
use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

use asterism::model::FetchOptions;

/// The repository's id.
pub(crate) const REPO: &str = "org/tiny";
/// Its first commit.
pub(crate) const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

/// What the server does beside serving files.
#[derive(Clone, Default)]
pub(crate) struct Hub {
    pub(crate) files: BTreeMap<String, Vec<u8>>,
    pub(crate) commit: String,
    /// Requests for files get this status; so do those for the description if the flag is set.
    pub(crate) refuse: Option<(u16, bool)>,
    /// Downloads (not the request for their length) of this file go wrong.
    pub(crate) broken: Option<(&'static str, Broken)>,
    /// The description tells another commit than the files.
    pub(crate) moved: bool,
    /// So many requests are answered with 503 before the first that is not.
    pub(crate) busy: Arc<AtomicUsize>,
}

/// How a download goes wrong.
#[derive(Clone, Copy)]
pub(crate) enum Broken {
    /// It gives an error page, with this status.
    Page(u16),
    /// A download from the start ends after this many bytes; a download of the rest is whole.
    Cut(usize),
    /// The same, and a request for the rest is answered with the whole file.
    CutWhole(usize),
}

/// One answer.
struct Answer {
    status: u16,
    headers: String,
    body: Vec<u8>,
    /// The connection ends after this many bytes of the body.
    cut: Option<usize>,
}

/// A running server. It lives as long as the test process.
pub(crate) struct Server {
    pub(crate) address: String,
    pub(crate) log: Arc<Mutex<Vec<String>>>,
}

impl Hub {
    /// A whole repository in two shards, with files that must not be fetched.
    pub(crate) fn sound() -> Self {
        let mut hub = Self { commit: COMMIT.into(), ..Self::default() };
        for entry in
            fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/../../models/nano")).unwrap()
        {
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
        let header = |name: &str| {
            headers.iter().find(|line| line.to_lowercase().starts_with(name)).map(String::as_str)
        };
        let (token, range) = (header("authorization:"), header("range:"));
        let line = format!("{request} {} {}", token.unwrap_or(""), range.unwrap_or(""));
        log.lock().unwrap().push(line);
        let (method, target) = request.split_once(' ')?;
        let path = target.split([' ', '?']).next()?;
        let start =
            range.and_then(|line| line.split_once('=')?.1.trim_end_matches('-').parse().ok());
        let port = stream.local_addr().ok()?.port();
        let Answer { status, headers, body, cut } = self.respond(method, path, start, port);
        let length = body.len();
        let head = format!("HTTP/1.1 {status} x\r\nContent-Length: {length}\r\n{headers}\r\n");
        stream.write_all(head.as_bytes()).ok()?;
        if method == "HEAD" {
            return Some(());
        }
        stream.write_all(&body[..cut.unwrap_or(length)]).ok()?;
        if cut.is_some() {
            stream.shutdown(std::net::Shutdown::Both).ok()?;
            return None;
        }
        Some(())
    }

    fn respond(&self, method: &str, path: &str, start: Option<usize>, port: u16) -> Answer {
        let busy = self.busy.try_update(Ordering::Relaxed, Ordering::Relaxed, |n| n.checked_sub(1));
        if busy.is_ok() {
            return Answer::new(503, String::new(), "busy");
        }
        let description = path.strip_prefix("/api/models/");
        match self.refuse {
            Some((status, everything)) if everything || description.is_none() => {
                return Answer::new(status, String::new(), "refused");
            }
            _ => {}
        }
        if let Some(rest) = description {
            return self.describe(rest);
        }
        let asked = path
            .strip_prefix(&format!("/{REPO}/resolve/"))
            .and_then(|rest| rest.split_once('/'))
            .map(|(_, file)| file);
        let file = asked.or_else(|| path.strip_prefix("/api/resolve-cache/"));
        let file = file.or_else(|| path.strip_prefix("/cdn/"));
        let Some((name, content)) = file.and_then(|file| self.files.get_key_value(file)) else {
            return Answer::not_found("EntryNotFound");
        };
        let mut hasher = DefaultHasher::new();
        content.hash(&mut hasher);
        let (etag, commit) = (format!("\"{:016x}\"", hasher.finish()), &self.commit);
        let known = format!("X-Repo-Commit: {commit}\r\n");
        let weights = name.ends_with(".safetensors");
        if asked.is_some() && weights {
            let size = content.len();
            let headers = format!(
                "{known}X-Linked-Etag: {etag}\r\nX-Linked-Size: {size}\r\nETag: \"other\"\r\n\
                 Location: http://localhost:{port}/cdn/{name}\r\n"
            );
            return Answer::new(302, headers, "over there");
        }
        if asked.is_some() && name == "tokenizer.json" {
            let place = format!("Location: /api/resolve-cache/{name}\r\n");
            return Answer::new(307, place, "over there");
        }
        let broken = self.broken.filter(|(file, _)| method == "GET" && file == name);
        let start = start.filter(|_| !matches!(broken, Some((_, Broken::CutWhole(_)))));
        let mut answer = Answer::new(200, String::new(), content.as_slice());
        if !weights {
            answer.headers = format!("{known}ETag: {etag}\r\n");
        }
        if let Some(start) = start {
            let size = content.len();
            answer.status = 206;
            answer.body.drain(..start);
            answer.headers += &format!("Content-Range: bytes {start}-{}/{size}\r\n", size - 1);
        }
        match broken {
            Some((_, Broken::Page(status))) => {
                Answer::new(status, String::new(), "<html>Sorry</html>")
            }
            Some((_, Broken::Cut(length))) if start.is_none() => {
                Answer { cut: Some(length), ..answer }
            }
            Some((_, Broken::CutWhole(length))) => Answer { cut: Some(length), ..answer },
            _ => answer,
        }
    }

    fn describe(&self, rest: &str) -> Answer {
        let Some(revision) = rest.strip_prefix(REPO) else {
            return Answer::not_found("RepoNotFound");
        };
        let known = ["", "/revision/v1", "/revision/a%2Fb%231", &format!("/revision/{COMMIT}")];
        if !known.contains(&revision) {
            return Answer::not_found("RevisionNotFound");
        }
        let sha = if self.moved { self.commit.replace('0', "f") } else { self.commit.clone() };
        let names: Vec<_> =
            self.files.keys().map(|name| serde_json::json!({"rfilename": name})).collect();
        let body = serde_json::json!({"id": REPO, "sha": sha, "siblings": names});
        Answer::new(200, String::new(), body.to_string().as_str())
    }
}

impl Answer {
    fn new(status: u16, headers: String, body: impl AsRef<[u8]>) -> Self {
        Self { status, headers, body: body.as_ref().to_vec(), cut: None }
    }

    fn not_found(code: &str) -> Self {
        Self::new(404, format!("X-Error-Code: {code}\r\n"), "no")
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
