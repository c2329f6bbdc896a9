//! `likewise token`: creates tokens for services. Likewise stores only their hashes, so it prints a token once.

use std::io::Write;
use std::process::ExitCode;

use super::Failure;
use crate::web::auth::Scope;
use crate::web::auth::service_tokens::{NAME_RULE, fresh, is_name};

#[derive(Debug, clap::Subcommand)]
pub(super) enum TokenCommand {
    /// Create a token, and print it with its lines for the file in `LIKEWISE_TOKENS_FILE`
    New {
        /// Name of the service in logs and records
        #[arg(long, value_parser = name)]
        name: String,
        /// Scope: likes:write:any, likes:read, admin:read, admin:operate or data:erase; may be repeated
        #[arg(long = "scope", required = true, value_name = "SCOPE")]
        scopes: Vec<Scope>,
    },
}

fn name(text: &str) -> Result<String, &'static str> {
    is_name(text).then(|| text.to_owned()).ok_or(NAME_RULE)
}

pub(super) fn run(command: &TokenCommand) -> Result<ExitCode, Failure> {
    let TokenCommand::New { name, scopes } = command;
    let (token, hash) = fresh().ok_or(Failure::NoRandomness)?;
    let scopes: Vec<_> = scopes.iter().map(|scope| format!("\"{scope}\"")).collect();
    writeln!(
        std::io::stdout(),
        "# The token, which is shown only now:\n{token}\n\n\
         # Add this to the file that LIKEWISE_TOKENS_FILE names, and start the service again:\n\
         [[token]]\nname = \"{name}\"\nsha256 = \"{hash}\"\nscopes = [{}]",
        scopes.join(", ")
    )?;
    Ok(ExitCode::SUCCESS)
}
