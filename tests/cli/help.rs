//! `-h` shows the common settings and `--help` all of them, in groups and with their defaults.

use likewise::config::PartialConfig;

use crate::support::service::Setup;

/// Settings for tests, which no help shows.
const HIDDEN: [&str; 1] = ["LIKEWISE_FAULT_INJECTION"];

/// Settings without a flag.
const SECRETS: [&str; 3] = [
    "LIKEWISE_ADMIN_TOKEN",
    "LIKEWISE_JWT_SECRET",
    "LIKEWISE_WEBHOOK_SECRET",
];

fn help(arguments: &[&str]) -> String {
    let ran = Setup::new().run(arguments);
    ran.exits(0);
    ran.stdout
}

#[test]
fn long_help_shows_every_setting_with_its_default() {
    for arguments in [
        &["--help"][..],
        &["serve", "--help"],
        &["migrate", "--help"],
    ] {
        let help = help(arguments);
        let mut shown = 0;
        for setting in PartialConfig::settings() {
            let variable = format!("[env: {}]", setting.variable);
            if HIDDEN.contains(&setting.variable) || SECRETS.contains(&setting.variable) {
                assert!(!help.contains(&variable), "{help}");
                continue;
            }
            shown += 1;
            let (before, _) = help
                .split_once(&variable)
                .unwrap_or_else(|| panic!("{arguments:?}: {} is missing", setting.variable));
            let (_, entry) = before.rsplit_once("\n      --").expect("a flag");
            if let Some(default) = setting.default {
                assert!(entry.contains(&format!("[default: {default}]")), "{entry}");
            }
        }
        assert!(shown > 30, "{shown}");
    }
    for secret in SECRETS {
        assert!(help(&["--help"]).contains(secret), "{secret}");
    }
}

#[test]
fn short_help_lists_only_common_settings() {
    for command in [None, Some("serve")] {
        let with = |flag| {
            let arguments: Vec<_> = command.into_iter().chain([flag]).collect();
            help(&arguments)
        };
        let (short, long) = (with("-h"), with("--help"));
        assert!(short.lines().count() < 45, "{short}");
        assert!(short.contains("--database-url <URL>"), "{short}");
        assert!(!short.contains("--batch-size"), "{short}");
        let place = |heading: &str| {
            let heading = format!("\n{heading}:\n");
            long.find(&heading)
                .unwrap_or_else(|| panic!("{heading} is missing: {long}"))
        };
        let places = [
            "Common settings",
            "Sign-in",
            "HTTP",
            "NATS",
            "Audit and retention",
        ]
        .map(place);
        assert!(places.is_sorted(), "{places:?}");
    }
}
