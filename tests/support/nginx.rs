//! nginx before one or two processes: as `docs/nginx.conf` sets it up, and set up without care.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

use super::http::Client;
use super::servers::{Port, free_port, program, until_open};
use super::service::Service;

const RECOMMENDED: &str = include_str!("../../docs/nginx.conf");

/// The token of the gateway in `docs/nginx.conf`.
pub const TOKEN: &str = "lkw_the-token-of-the-gateway";

/// The host that it serves.
pub const HOST: &str = "likes.example.com";

/// A running nginx, killed when it is dropped.
pub struct Gateway {
    process: Child,
    folder: TempDir,
    recommended: Port,
    bare: Port,
    telling: Port,
    sign_in: Port,
}

impl Gateway {
    /// Starts it before a service. Its users sign in with the cookie `session=alice`, who is user 42.
    #[track_caller]
    pub fn before(service: &Service) -> Self {
        Self::start(&[service.address()], RECOMMENDED)
    }

    /// Starts it before processes at these addresses, without a limit for each client.
    #[track_caller]
    pub fn balancing(addresses: [SocketAddr; 2]) -> Self {
        let unlimited = RECOMMENDED.replace("rate=20r/s", "rate=1000000r/s");
        assert_ne!(unlimited, RECOMMENDED);
        Self::start(&addresses, &unlimited)
    }

    #[track_caller]
    fn start(addresses: &[SocketAddr], recommended_settings: &str) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let [recommended, bare, telling, sign_in] = std::array::from_fn(|_| free_port());
        let numbers = [&recommended, &bare, &telling, &sign_in].map(|port| port.address().port());
        let settings = configuration(folder.path(), recommended_settings, addresses, numbers);
        let file = folder.path().join("nginx.conf");
        fs::write(&file, settings).expect("a file");
        let log = fs::File::create(folder.path().join("log")).expect("a log");
        let nginx = || {
            let mut command = Command::new(program("LIKEWISE_TEST_NGINX"));
            command.args(["-e", "stderr", "-p"]).arg(folder.path());
            command.arg("-c").arg(&file);
            command
        };
        let checked = nginx().arg("-t").output().expect("nginx runs");
        let said = String::from_utf8_lossy(&checked.stderr);
        assert!(checked.status.success(), "{said}");
        let process = nginx()
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("nginx starts");
        let gateway = Self {
            process,
            folder,
            recommended,
            bare,
            telling,
            sign_in,
        };
        gateway.wait();
        gateway
    }

    #[track_caller]
    fn wait(&self) {
        for port in [&self.recommended, &self.bare, &self.telling, &self.sign_in] {
            until_open(port, "nginx", &self.folder.path().join("log"));
        }
    }

    /// A client of the gateway that `docs/nginx.conf` sets up.
    pub fn recommended(&self) -> Client {
        Client::of(self.recommended.address())
    }

    /// The address of that gateway.
    pub fn recommended_address(&self) -> SocketAddr {
        self.recommended.address()
    }

    /// A client of a gateway that forwards everything, and says nothing of itself.
    pub fn bare(&self) -> Client {
        Client::of(self.bare.address())
    }

    /// A client of a gateway that forwards everything, and says so.
    pub fn telling(&self) -> Client {
        Client::of(self.telling.address())
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        // It runs as one process, without workers of its own.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The settings of the docs at addresses of this test, without TLS, and the careless gateways.
fn configuration(
    folder: &Path,
    recommended_settings: &str,
    addresses: &[SocketAddr],
    ports: [u16; 4],
) -> String {
    let [recommended, bare, telling, sign_in] = ports;
    let likewise = addresses[0];
    let mut documented = String::new();
    for line in recommended_settings.lines() {
        let line = match line.trim() {
            "listen 443 ssl;" => format!("listen 127.0.0.1:{recommended};"),
            "server 127.0.0.1:8080 max_fails=0;" => format!("server {likewise} max_fails=0;"),
            "server 127.0.0.1:8081 max_fails=0;" => addresses
                .get(1)
                .map(|other| format!("server {other} max_fails=0;"))
                .unwrap_or_default(),
            "proxy_pass http://127.0.0.1:9000/session;" => {
                format!("proxy_pass http://127.0.0.1:{sign_in}/session;")
            }
            text if text.starts_with("ssl_") => String::new(),
            _ => line.to_owned(),
        };
        documented += &format!("{line}\n");
    }
    for port in [recommended, sign_in] {
        assert!(documented.contains(&format!("127.0.0.1:{port}")));
    }
    for address in addresses {
        assert!(documented.contains(&address.to_string()));
    }
    let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|kind| format!("{kind}_temp_path {}/{kind};\n", folder.display()))
        .concat();
    format!(
        "daemon off;
master_process off;
pid {folder}/pid;
events {{}}
http {{
access_log off;
{temporary}
{documented}
server {{
    listen 127.0.0.1:{bare};
    location / {{ proxy_pass http://{likewise}; }}
}}
server {{
    listen 127.0.0.1:{telling};
    location / {{
        proxy_pass http://{likewise};
        proxy_http_version 1.1;
        proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
    }}
}}
server {{
    listen 127.0.0.1:{sign_in};
    location = /session {{
        if ($cookie_session != alice) {{ return 401; }}
        add_header X-User-Id 42;
        return 200;
    }}
}}
}}
",
        folder = folder.display()
    )
}
