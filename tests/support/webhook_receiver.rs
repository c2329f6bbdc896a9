//! A receiver of webhooks that answers with the statuses of the test, and records the requests.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use serde_json::Value;

/// A request that a receiver got.
#[derive(Debug, Clone)]
pub struct Posted {
    /// Its headers, with names in lower case.
    pub headers: Vec<(String, String)>,
    /// Its body.
    pub body: String,
    /// The status of the answer.
    pub status: u16,
}

impl Posted {
    /// Returns a header.
    #[track_caller]
    pub fn header(&self, name: &str) -> &str {
        let found = self.headers.iter().find(|(header, _)| header == name);
        &found.unwrap_or_else(|| panic!("no {name}: {self:?}")).1
    }

    /// Returns the facts.
    #[track_caller]
    pub fn facts(&self) -> Vec<Value> {
        let body: Value = serde_json::from_str(&self.body).expect("JSON");
        assert_eq!(body["type"], "likewise.facts");
        body["data"].as_array().expect("facts").clone()
    }
}

/// Decides the status of an answer from the body. 0 never answers.
type Rule = Box<dyn Fn(&str) -> u16 + Send + Sync>;

/// A receiver.
pub struct Hook {
    address: SocketAddr,
    shared: Arc<Shared>,
}

struct Shared {
    rule: Mutex<Arc<Rule>>,
    posted: Mutex<Vec<Posted>>,
}

impl Hook {
    /// Starts a receiver with this rule.
    pub fn start(rule: impl Fn(&str) -> u16 + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        let shared = Arc::new(Shared {
            rule: Mutex::new(Arc::new(Box::new(rule))),
            posted: Mutex::default(),
        });
        let serving = Arc::clone(&shared);
        // Ends with the process of the tests.
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let shared = Arc::clone(&serving);
                thread::spawn(move || {
                    // The sender may break the connection.
                    let _ = serve(&stream, &shared);
                });
            }
        });
        Self { address, shared }
    }

    /// Returns its URL.
    pub fn url(&self) -> String {
        format!("http://{}/hook", self.address)
    }

    /// Replaces the rule.
    pub fn obey(&self, rule: impl Fn(&str) -> u16 + Send + Sync + 'static) {
        let mut held = self
            .shared
            .rule
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        *held = Arc::new(Box::new(rule));
    }

    /// Returns the requests so far.
    pub fn posted(&self) -> Vec<Posted> {
        let posted = self.shared.posted.lock();
        posted.unwrap_or_else(PoisonError::into_inner).clone()
    }
}

fn serve(stream: &TcpStream, shared: &Shared) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream);
    loop {
        let mut headers = Vec::new();
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 {
            return Ok(());
        }
        loop {
            line.clear();
            reader.read_line(&mut line)?;
            let Some((name, value)) = line.trim().split_once(':') else {
                break;
            };
            headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
        }
        let length = headers.iter().find(|(name, _)| name == "content-length");
        let length = length
            .and_then(|(_, value)| value.parse().ok())
            .unwrap_or(0);
        let mut body = vec![0; length];
        reader.read_exact(&mut body)?;
        let body = String::from_utf8_lossy(&body).into_owned();
        let rule = Arc::clone(&shared.rule.lock().unwrap_or_else(PoisonError::into_inner));
        let status = rule(&body);
        let posted = Posted {
            headers,
            body,
            status,
        };
        let mut all = shared.posted.lock().unwrap_or_else(PoisonError::into_inner);
        all.push(posted);
        drop(all);
        if status == 0 {
            thread::park();
        }
        write!(
            &*stream,
            "HTTP/1.1 {status} Said\r\nContent-Length: 0\r\n\r\n"
        )?;
    }
}
