//! Servers that are too old.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;

use crate::support::service::Setup;

/// Greets as a NATS server of this version does, and answers pings.
fn pretend(version: &str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("nats://{}", listener.local_addr().expect("an address"));
    let greeting = format!(
        "INFO {{\"server_id\":\"OLD\",\"server_name\":\"old\",\"version\":\"{version}\",\"proto\":1,\
         \"host\":\"127.0.0.1\",\"port\":4222,\"headers\":true,\"max_payload\":1048576,\
         \"jetstream\":true,\"client_id\":1}}\r\n"
    );
    std::thread::spawn(move || {
        for connection in listener.incoming().flatten() {
            let (mut writer, greeting) = (connection, greeting.clone());
            let Ok(reader) = writer.try_clone() else {
                continue;
            };
            std::thread::spawn(move || {
                let _ = writer.write_all(greeting.as_bytes());
                for line in BufReader::new(reader).lines().map_while(Result::ok) {
                    if line == "PING" && writer.write_all(b"PONG\r\n").is_err() {
                        return;
                    }
                }
            });
        }
    });
    url
}

#[test]
fn server_before_2_10_is_rejected() {
    for version in ["2.9.25", "1.4.1", "nonsense"] {
        let setup = Setup::new().set("LIKEWISE_NATS_URL", pretend(version));
        let ran = setup.run(&["serve"]);
        assert_ne!(ran.code, Some(0), "{ran:?}");
        ran.reports("2.10").reports(version);
    }
}
