//! What all requests share, such as keys and rate limits: `Context` registers it, and extractors and middleware
//! find it here.

use actix_web::HttpRequest;
use actix_web::web::Data;

use super::problem::Problem;

/// The shared value of this type.
pub(super) fn shared<T: 'static>(request: &HttpRequest) -> Result<&T, Problem> {
    request
        .app_data::<Data<T>>()
        .map(|data| &***data)
        .ok_or_else(|| Problem::internal("a shared value is not registered"))
}
