//! Without authentication, the service listens on loopback only and refuses to start on any other address.

use crate::support::service::Setup;

#[test]
fn unauthenticated_service_listens_on_loopback_only() {
    for address in ["0.0.0.0:0", "[::]:0", "192.0.2.1:8080"] {
        let setup = Setup::new().set("LIKEWISE_HTTP_ADDR", address);
        let ran = setup.run(&["serve"]);
        ran.exits(1);
        for said in [
            "refusing to listen on",
            address,
            "no authentication",
            "LIKEWISE_HTTP_ADDR",
        ] {
            assert!(ran.stderr.contains(said), "{said} is not in {ran:?}");
        }
        assert!(!ran.stdout.contains("listening"), "{ran:?}");
    }
}
