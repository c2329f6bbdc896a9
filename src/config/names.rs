//! The names of settings: refuses unknown ones, which would otherwise silently leave a default in force.

use super::{ConfigError, PartialConfig};

/// The beginning of every environment variable of Likewise.
const PREFIX: &str = "LIKEWISE_";

/// Variables that the scripts and tests of this repository read, by their beginnings.
const TOOLS: [&str; 6] = [
    "LIKEWISE_TEST_",
    "LIKEWISE_SIMULATION_",
    "LIKEWISE_CHAOS_",
    "LIKEWISE_SCALE_",
    "LIKEWISE_MUTANTS_",
    "LIKEWISE_OUTAGE_",
];

/// The least similarity of a suggestion, between 0 and 1.
const SIMILAR: f64 = 0.8;

impl PartialConfig {
    /// Refuses environment variables that begin with `LIKEWISE_` and are no setting.
    ///
    /// # Errors
    /// If there are any, with the settings that are probably meant.
    pub fn check_environment() -> Result<(), ConfigError> {
        let variables = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok())));
        match unknown_variables(variables).as_slice() {
            [] => Ok(()),
            unknown => Err(ConfigError::UnknownVariables(unknown.join("; "))),
        }
    }
}

fn unknown_variables(variables: impl Iterator<Item = (String, Option<String>)>) -> Vec<String> {
    let known: Vec<_> = PartialConfig::settings()
        .into_iter()
        .map(|setting| setting.variable)
        .collect();
    let mut unknown: Vec<_> = variables
        .filter(|(name, _)| name.starts_with(PREFIX))
        .filter(|(name, _)| !known.contains(&name.as_str()))
        .filter(|(name, _)| !TOOLS.iter().any(|tool| name.starts_with(tool)))
        .filter(|(name, value)| !is_of_kubernetes(name, value.as_deref().unwrap_or_default()))
        .map(|(name, _)| match similar(&name, known.iter().copied()) {
            Some(meant) => format!("{name} (did you mean {meant}?)"),
            None => name,
        })
        .collect();
    unknown.sort();
    unknown
}

/// Whether Kubernetes has set this variable, which it does in every pod for each service: a service `likewise` makes
/// `LIKEWISE_SERVICE_HOST` and `LIKEWISE_PORT=tcp://10.0.0.1:80`.
fn is_of_kubernetes(name: &str, value: &str) -> bool {
    let is_address = ["tcp://", "udp://", "sctp://"]
        .iter()
        .any(|scheme| value.starts_with(scheme));
    let of_port = name
        .rsplit_once("_PORT_")
        .is_some_and(|(_, rest)| rest.starts_with(|first: char| first.is_ascii_digit()))
        || name.contains("_TCP_") && name.contains("_PORT");
    name.ends_with("_SERVICE_HOST")
        || name.contains("_SERVICE_PORT")
        || (name.ends_with("_PORT") && is_address)
        || of_port
}

/// The known name that is most similar.
pub(super) fn similar<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let name = name.trim_start_matches(PREFIX);
    known
        .map(|one| {
            let bare = one.trim_start_matches(PREFIX);
            (strsim::jaro_winkler(name, bare), one)
        })
        .filter(|(similarity, _)| *similarity >= SIMILAR)
        .max_by(|(a, _), (b, _)| a.total_cmp(b))
        .map(|(_, one)| one)
}

/// The words for an unknown key of the settings file in place of the parser's, which list every key.
pub(super) fn unknown_key(message: &str) -> Option<String> {
    let (key, _) = message.strip_prefix("unknown field `")?.split_once('`')?;
    let known: Vec<_> = PartialConfig::settings()
        .into_iter()
        .map(|setting| setting.variable.trim_start_matches(PREFIX).to_lowercase())
        .collect();
    let advice = match similar(key, known.iter().map(String::as_str)) {
        Some(meant) => format!("did you mean {meant}?"),
        None => "`likewise --help` lists the settings".to_owned(),
    };
    Some(format!("there is no setting {key}; {advice}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unknown(variables: &[(&str, &str)]) -> Vec<String> {
        let variables = variables.iter();
        unknown_variables(
            variables.map(|(name, value)| ((*name).to_owned(), Some((*value).to_owned()))),
        )
    }

    #[test]
    fn misspelt_variable_suggests_the_setting() {
        let meant = |name: &str| unknown(&[(name, "x")]).join("");
        for (name, right) in [
            ("LIKEWISE_DATABASE_ULR", "LIKEWISE_DATABASE_URL"),
            ("LIKEWISE_REDIS", "LIKEWISE_REDIS_URL"),
            ("LIKEWISE_ADMINTOKEN", "LIKEWISE_ADMIN_TOKEN"),
            ("LIKEWISE_BATCHSIZE", "LIKEWISE_BATCH_SIZE"),
        ] {
            assert_eq!(meant(name), format!("{name} (did you mean {right}?)"));
        }
        assert_eq!(
            meant("LIKEWISE_COLOUR_OF_THE_SKY"),
            "LIKEWISE_COLOUR_OF_THE_SKY"
        );
    }

    #[test]
    fn variables_of_others_are_no_settings() {
        let others = [
            ("LIKEWISE_TEST_SEED", "1"),
            ("LIKEWISE_SERVICE_HOST", "10.0.0.1"),
            ("LIKEWISE_SERVICE_PORT_HTTP", "80"),
            ("LIKEWISE_PORT", "tcp://10.0.0.1:80"),
            ("LIKEWISE_PORT_80_TCP_ADDR", "10.0.0.1"),
            ("LIKEWISE_API_PORT_80_TCP", "tcp://10.0.0.1:80"),
            ("OTHER_DATABASE_ULR", "x"),
        ];
        assert_eq!(unknown(&others), Vec::<String>::new());
        assert_eq!(unknown(&[("LIKEWISE_PORT", "8080")]).len(), 1);
        for setting in PartialConfig::settings() {
            assert_eq!(unknown(&[(setting.variable, "x")]), Vec::<String>::new());
        }
    }
}
