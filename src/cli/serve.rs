//! `likewise serve`: the service, until a signal ends it.

use std::io::Write;
use std::process::ExitCode;

use super::Failure;
use crate::app::App;
use crate::config::Settings;

pub(super) async fn run(settings: Settings) -> Result<ExitCode, Failure> {
    let app = App::start(settings).await?;
    let address = app.address();
    // Closed standard output is no reason not to serve.
    let _ = writeln!(
        std::io::stdout(),
        "\nLikewise is listening on http://{address}. Try:\n\n  \
         curl -X PUT    -H 'X-User-Id: 42' http://{address}/v1/videos/7/like\n  \
         curl           -H 'X-User-Id: 42' http://{address}/v1/videos/7/like\n  \
         curl -X DELETE -H 'X-User-Id: 42' http://{address}/v1/videos/7/like\n  \
         curl http://{address}/readyz\n  \
         curl http://{address}/admin/actors\n\n\
         Ctrl-C drains what is under way and stops.\n"
    );
    Ok(app.run_until_signal().await)
}
