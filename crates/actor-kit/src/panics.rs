//! What a panic says, and where it happened. Its payload does not tell the place; only the panic hook knows.

use std::any::Any;
use std::cell::RefCell;
use std::panic;
use std::sync::Once;

thread_local! {
    static PLACE: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Makes [`take_place`] work, in addition to the present panic hook.
pub(crate) fn remember_places() {
    static INSTALLED: Once = Once::new();
    INSTALLED.call_once(|| {
        let present = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            PLACE.set(info.location().map(ToString::to_string));
            present(info);
        }));
    });
}

/// Returns the file, line and column of this thread's last panic, once.
pub(crate) fn take_place() -> Option<String> {
    PLACE.take()
}

/// Returns the message in the payload of a panic.
pub(crate) fn message_of(payload: &(dyn Any + Send)) -> &str {
    payload
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| payload.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("without a message")
}
