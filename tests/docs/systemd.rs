//! `docs/likewise@.service` is a valid unit of systemd.

use std::fs;
use std::process::Command;

use crate::support::servers::program;

const UNIT: &str = include_str!("../../docs/likewise@.service");

#[test]
fn systemd_accepts_the_documented_unit() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = folder.path().join("likewise@.service");
    let verify = |unit: &str| {
        fs::write(&file, unit).expect("a file");
        let mut command = Command::new(program("LIKEWISE_TEST_SYSTEMD_ANALYZE"));
        let ran = command.args(["verify", "--man=no"]).arg(&file).output();
        let ran = ran.expect("systemd-analyze runs");
        let said = String::from_utf8_lossy(&ran.stderr).into_owned();
        (ran.status.success() && said.is_empty(), said)
    };
    let installed = "/usr/local/bin/likewise";
    assert!(UNIT.contains(&format!("ExecStart={installed} serve")));
    let unit = UNIT.replace(installed, env!("CARGO_BIN_EXE_likewise"));
    let (is_valid, said) = verify(&unit);
    assert!(is_valid, "{said}");
    let misspelt = unit.replace("TimeoutStopSec", "TimeoutStop");
    let (is_valid, said) = verify(&misspelt);
    assert!(!is_valid && said.contains("TimeoutStop"), "{said}");
}
