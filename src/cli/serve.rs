//! `likewise serve`: runs the service until a signal.

use std::io::Write;
use std::net::SocketAddr;
use std::process::ExitCode;

use super::Failure;
use crate::app::App;
use crate::config::{AuthMode, LogFormat, Settings};
use crate::telemetry::write_failure;

pub(super) async fn run(settings: Settings) -> Result<ExitCode, Failure> {
    // With sign-in, the user and the operator each need a token.
    let (user, admin) = match settings.auth.mode {
        AuthMode::None => ("-H 'X-User-Id: 42'", ""),
        AuthMode::Jwt => (
            "-H \"Authorization: Bearer $TOKEN\"",
            "-H \"Authorization: Bearer $ADMIN_TOKEN\" ",
        ),
    };
    let log_format = settings.log_format;
    let app = match App::start(settings).await {
        Ok(app) => app,
        Err(error) => {
            write_failure(log_format, &error);
            exit(1)
        }
    };
    // A program that reads the log as JSON may read both outputs. The log has the address.
    if log_format == LogFormat::Text {
        welcome(app.address(), user, admin);
    }
    exit(app.run_until_signal().await)
}

/// Ends the process, after the log has reported why. A thread that waits for a locked file would keep the process alive.
/// Another thread exits, because the destructors of this one drop the tasks of its runtime, and those of actors and open
/// transactions panic.
fn exit(code: u8) -> ! {
    let exiting = std::thread::spawn(move || std::process::exit(code.into()));
    // It ends only by a panic.
    let _ = exiting.join();
    std::process::abort()
}

/// Prints what to try, with the headers of users and operators.
fn welcome(address: SocketAddr, user: &str, admin: &str) {
    // Serve even if standard output is closed.
    let _ = writeln!(
        std::io::stdout(),
        "\nLikewise is listening on http://{address}. Try:\n\n  \
         http://{address}/       in a browser: like a video, and watch it travel\n  \
         http://{address}/admin  the console\n\n  \
         curl -X PUT    {user} http://{address}/v1/videos/7/like\n  \
         curl           {user} http://{address}/v1/videos/7/like\n  \
         curl -X DELETE {user} http://{address}/v1/videos/7/like\n  \
         curl http://{address}/readyz\n  \
         curl {admin}http://{address}/admin/actors\n\n\
         Ctrl-C drains what is under way and stops.\n"
    );
}
