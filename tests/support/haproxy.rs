//! HAProxy before two processes, as `docs/haproxy.cfg` sets it up.

use std::fs;
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

use super::http::Client;
use super::servers::{Port, free_port, program, until_open};

const RECOMMENDED: &str = include_str!("../../docs/haproxy.cfg");

/// A running HAProxy, killed when it is dropped.
pub struct Haproxy {
    process: Child,
    port: Port,
    _folder: TempDir,
}

impl Haproxy {
    /// Starts it before processes at these addresses, without TLS.
    #[track_caller]
    pub fn before([a, b]: [SocketAddr; 2]) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let port = free_port();
        let mut settings = RECOMMENDED.to_owned();
        for (documented, own) in [
            (
                "bind :443 ssl crt /etc/haproxy/likes.example.com.pem",
                format!("bind {}", port.address()),
            ),
            ("server a 127.0.0.1:8080", format!("server a {a}")),
            ("server b 127.0.0.1:8081", format!("server b {b}")),
        ] {
            assert!(settings.contains(documented), "{documented}");
            settings = settings.replace(documented, &own);
        }
        let file = folder.path().join("haproxy.cfg");
        fs::write(&file, settings).expect("a file");
        let log = folder.path().join("log");
        let process = Command::new(program("LIKEWISE_TEST_HAPROXY"))
            .arg("-db")
            .arg("-f")
            .arg(&file)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(fs::File::create(&log).expect("a log"))
            .spawn()
            .expect("HAProxy starts");
        let haproxy = Self {
            process,
            port,
            _folder: folder,
        };
        until_open(&haproxy.port, "HAProxy", &log);
        haproxy
    }

    /// A client of it.
    pub fn client(&self) -> Client {
        Client::of(self.port.address())
    }
}

impl Drop for Haproxy {
    fn drop(&mut self) {
        // It runs as one process.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
