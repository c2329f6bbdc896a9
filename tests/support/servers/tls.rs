//! Servers that demand TLS from every client.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::PathBuf;

use harness::servers::NATS_STORAGE;

use super::{Kind, Server, connects};

/// What a server with TLS has: it demands TLS from every client, and a certificate that this authority has signed.
#[derive(Debug)]
pub struct Tls {
    /// The file of the authority.
    pub ca: PathBuf,
    /// The file of the server's certificate.
    pub cert: PathBuf,
    /// The file of its key.
    pub key: PathBuf,
}

impl Server {
    /// Starts a server on empty data that accepts connections with TLS only.
    #[track_caller]
    pub fn with_tls(kind: Kind, tls: Tls) -> Self {
        let mut server = Self::start(kind);
        server.with_tls_from_now(tls);
        server
    }

    /// Starts it again on the same data and port, and accepts connections with TLS only.
    #[track_caller]
    pub fn with_tls_from_now(&mut self, tls: Tls) {
        self.stop();
        self.demand_tls(&tls);
        self.tls = Some(tls);
        self.run();
    }

    /// Starts it again without TLS, on the same data and port.
    #[track_caller]
    pub fn without_tls(&mut self) {
        self.stop();
        self.tls = None;
        self.run();
    }

    /// Writes the files that a server with TLS needs.
    fn demand_tls(&self, Tls { ca, cert, key }: &Tls) {
        let folder = self.installation.folder();
        let file = |name: &str, text: &str| {
            fs::write(folder.join(name), text).expect("a file");
        };
        match self.kind() {
            Kind::MariaDb => file(
                "init.sql",
                "ALTER USER 'likewise'@'127.0.0.1' REQUIRE X509;\n",
            ),
            Kind::Postgres => {
                file(
                    "hba",
                    "hostssl all all 127.0.0.1/32 trust clientcert=verify-full\n",
                );
                // PostgreSQL insists on a key of its own.
                let owner = fs::metadata(self.data()).expect("the data folder");
                for (from, name) in [(ca, "ca.pem"), (cert, "tls.pem"), (key, "tls.key")] {
                    let to = folder.join(name);
                    fs::copy(from, &to).expect("a copy");
                    fs::set_permissions(&to, fs::Permissions::from_mode(0o600)).expect("a mode");
                    chown(&to, Some(owner.uid()), Some(owner.gid()))
                        .expect("an owner");
                }
            }
            Kind::Redis => {}
            Kind::Nats => self.configure(&format!(
                "{NATS_STORAGE}tls {{ cert_file: '{}', key_file: '{}', ca_file: '{}', verify: true }}\n",
                cert.display(),
                key.display(),
                ca.display()
            )),
        }
    }

    /// The arguments that make a server demand TLS.
    pub(super) fn tls_arguments(&self) -> Vec<String> {
        let Some(Tls { ca, cert, key }) = &self.tls else {
            return Vec::new();
        };
        let (ca, cert, key) = (ca.display(), cert.display(), key.display());
        let folder = self.installation.folder().display();
        match self.kind() {
            Kind::MariaDb => vec![
                format!("--ssl-ca={ca}"),
                format!("--ssl-cert={cert}"),
                format!("--ssl-key={key}"),
                "--require-secure-transport=ON".to_owned(),
                format!("--init-file={folder}/init.sql"),
            ],
            Kind::Postgres => [
                "ssl=on".to_owned(),
                format!("ssl_ca_file={folder}/ca.pem"),
                format!("ssl_cert_file={folder}/tls.pem"),
                format!("ssl_key_file={folder}/tls.key"),
                format!("hba_file={folder}/hba"),
            ]
            .into_iter()
            .flat_map(|setting| ["-c".to_owned(), setting])
            .collect(),
            Kind::Redis => {
                let port = self.installation.address().port();
                // It listens on the other port only.
                let mut arguments = vec!["--port".to_owned(), "0".to_owned()];
                for (name, value) in [
                    ("--tls-port", port.to_string()),
                    ("--tls-ca-cert-file", ca.to_string()),
                    ("--tls-cert-file", cert.to_string()),
                    ("--tls-key-file", key.to_string()),
                ] {
                    arguments.extend([name.to_owned(), value]);
                }
                if self.bus.is_some() {
                    arguments.extend(["--tls-cluster", "yes"].map(str::to_owned));
                }
                arguments
            }
            Kind::Nats => Vec::new(),
        }
    }

    /// Fails unless the server answers its protocol, or demands TLS.
    pub(super) fn answers(&self) -> Result<(), String> {
        match (self.kind(), &self.tls) {
            // It hangs up on a client without TLS, but it listens.
            (Kind::Redis, Some(_)) => {
                connects(self.installation.address()).map_err(|error| error.to_string())
            }
            (Kind::Postgres, Some(_)) => match self.installation.answers() {
                Ok(()) => Err("it serves clients without TLS".to_owned()),
                Err(answer) if answer.contains("no pg_hba.conf entry") => Ok(()),
                Err(answer) => Err(answer),
            },
            _ => self.installation.answers(),
        }
    }
}
