//! The effects of a failover on the demoted server and on its connections.

use std::collections::BTreeSet;

use super::database::Database;
use super::servers::{Kind, Server};
use super::until_seen;

impl Server {
    /// Makes the server refuse writes, as after a failover, or accept them again. A database keeps its connections; a
    /// Redis becomes a replica of a missing server, and keeps its data.
    #[track_caller]
    pub fn set_read_only(&self, read_only: bool) {
        match self.kind() {
            Kind::MariaDb => {
                let sql = format!("SET GLOBAL read_only = {}", u8::from(read_only));
                Database::first_of(self).as_administrator().execute(&[&sql]);
            }
            Kind::Postgres => {
                let sql = format!("ALTER SYSTEM SET default_transaction_read_only = {read_only}");
                let administrator = Database::first_of(self).as_administrator();
                administrator.execute(&[&sql, "SELECT pg_reload_conf()"]);
            }
            Kind::Redis => {
                // No server can listen on this port.
                let primary = if read_only {
                    ["127.0.0.1", "1"]
                } else {
                    ["NO", "ONE"]
                };
                let client = redis::Client::open(self.url()).expect("an address");
                let mut connection = client.get_connection().expect("a connection");
                let () = redis::cmd("REPLICAOF")
                    .arg(&primary)
                    .query(&mut connection)
                    .expect("it changes its role");
            }
            Kind::Nats => panic!("NATS has no replicas that refuse writes"),
        }
    }
}

impl Database {
    /// The server's ids of Likewise's connections, without the one that asks.
    #[track_caller]
    pub fn connections(&self) -> BTreeSet<i64> {
        let ids = match self {
            Self::MariaDb(_) => {
                "SELECT CAST(id AS SIGNED) FROM information_schema.processlist \
                 WHERE user = 'likewise' AND id <> CONNECTION_ID()"
            }
            _ => {
                "SELECT pid::bigint FROM pg_stat_activity \
                 WHERE usename = 'likewise' AND pid <> pg_backend_pid() AND client_addr IS NOT NULL"
            }
        };
        self.rows(ids).iter().map(|row| row[0].number()).collect()
    }

    /// Makes the server close all of Likewise's connections.
    #[track_caller]
    pub fn close_connections(&self) {
        let close = match self {
            Self::MariaDb(_) => "KILL USER likewise",
            _ => {
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
                 WHERE usename = 'likewise' AND client_addr IS NOT NULL"
            }
        };
        self.as_administrator().execute(&[close]);
        let open = || self.connections();
        until_seen("the connections to be closed", open, BTreeSet::is_empty);
    }
}
