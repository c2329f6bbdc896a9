//! Reads the SQLSTATE of errors off a PostgreSQL connection.
//!
//! tokio-postgres knows it, but diesel-async drops it, and the server cannot be asked for it afterwards. So the
//! bytes that come from the server pass through a [`Tap`], which follows the framing of the protocol
//! (one byte of type, four of length) and looks into `ErrorResponse` alone.

use std::convert::Infallible;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};

use diesel::connection::{Instrumentation, InstrumentationEvent};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio_postgres::tls::{ChannelBinding, MakeTlsConnect, TlsConnect, TlsStream};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::endpoint::Secured;
use crate::config::TlsMode;

/// The SQLSTATE of the last error that a connection received. A connection carries it as its
/// instrumentation, which is where it can be got at.
#[derive(Debug, Clone, Default)]
pub(super) struct LastSqlState(Arc<Mutex<Option<String>>>);

impl LastSqlState {
    /// Takes it, so that it is not mistaken for that of a later error.
    pub(super) fn take(&self) -> Option<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    fn set(&self, sqlstate: Option<String>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = sqlstate;
    }
}

impl Instrumentation for LastSqlState {
    fn on_connection_event(&mut self, _: InstrumentationEvent<'_>) {}
}

/// A stream that listens for errors. tokio-postgres lets a stream be wrapped where it expects TLS, so this takes that
/// place, and wraps TLS itself where there is any.
#[derive(Debug)]
pub(super) struct Tap<S> {
    stream: S,
    frames: Frames,
}

impl<S> Tap<S> {
    pub(super) fn new(stream: S, last: LastSqlState) -> Self {
        let frames = Frames {
            header: Vec::with_capacity(HEADER),
            body: None,
            left: 0,
            last,
        };
        Self { stream, frames }
    }
}

/// The bytes of a message's type and length.
const HEADER: usize = 5;

/// The type of `ErrorResponse`.
const ERROR: u8 = b'E';

/// Where in the server's messages a connection is.
#[derive(Debug)]
struct Frames {
    /// The header of the next message, as far as it has come.
    header: Vec<u8>,
    /// The body of an error, as far as it has come.
    body: Option<Vec<u8>>,
    /// How much of the current message's body is still to come.
    left: usize,
    last: LastSqlState,
}

impl Frames {
    fn pass(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            if self.left == 0 {
                let (header, rest) = bytes.split_at(bytes.len().min(HEADER - self.header.len()));
                self.header.extend_from_slice(header);
                bytes = rest;
                if let [kind, length @ ..] = self.header.as_slice()
                    && let Ok(length) = <[u8; 4]>::try_from(length)
                {
                    // The length counts itself.
                    self.left = (u32::from_be_bytes(length) as usize).saturating_sub(4);
                    self.body = (*kind == ERROR).then(Vec::new);
                    self.header.clear();
                }
            } else {
                let (part, rest) = bytes.split_at(bytes.len().min(self.left));
                self.left -= part.len();
                bytes = rest;
                if let Some(body) = &mut self.body {
                    body.extend_from_slice(part);
                    if self.left == 0 {
                        self.last.set(sqlstate(body));
                        self.body = None;
                    }
                }
            }
        }
    }
}

/// The field `C` of an `ErrorResponse`, whose fields are a letter and a text that ends with a zero.
fn sqlstate(body: &[u8]) -> Option<String> {
    let field = body
        .split(|byte| *byte == 0)
        .find(|field| field.first() == Some(&b'C'))?;
    Some(String::from_utf8_lossy(&field[1..]).into_owned())
}

impl<S: AsyncRead + Unpin> AsyncRead for Tap<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(context, buffer))?;
        self.frames.pass(&buffer.filled()[before..]);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Tap<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

/// A stream to the server, with TLS or without.
pub(super) enum MaybeTls<S: Io> {
    Plain(S),
    Tls(Box<Secure<S>>),
}

type Secure<S> = <MakeRustlsConnect as MakeTlsConnect<S>>::Stream;

/// What tokio-postgres's streams are.
pub(super) trait Io: AsyncRead + AsyncWrite + Unpin + Send + 'static {}

impl<S: AsyncRead + AsyncWrite + Unpin + Send + 'static> Io for S {}

impl<S: Io> AsyncRead for MaybeTls<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_read(context, buffer),
            Self::Tls(stream) => Pin::new(stream).poll_read(context, buffer),
        }
    }
}

impl<S: Io> AsyncWrite for MaybeTls<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write(context, bytes),
            Self::Tls(stream) => Pin::new(stream).poll_write(context, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_flush(context),
            Self::Tls(stream) => Pin::new(stream).poll_flush(context),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(context),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(context),
        }
    }
}

impl<S: Io> TlsStream for Tap<MaybeTls<S>> {
    fn channel_binding(&self) -> ChannelBinding {
        match &self.stream {
            MaybeTls::Plain(_) => ChannelBinding::none(),
            MaybeTls::Tls(stream) => stream.channel_binding(),
        }
    }
}

/// Asks the server for TLS if there is to be any, and makes a [`Tap`] of each connection, which sees what TLS has
/// decrypted.
#[derive(Clone)]
pub(super) struct Tapping {
    pub(super) last: LastSqlState,
    /// `None` for a connection without TLS.
    pub(super) secured: Option<Arc<Secured>>,
    /// Whether TLS begins without asking the server for it, as `sslnegotiation=direct` says.
    pub(super) is_direct: bool,
}

impl<S: Io> MakeTlsConnect<S> for Tapping {
    type Stream = Tap<MaybeTls<S>>;
    type TlsConnect = Connecting;
    type Error = Infallible;

    fn make_tls_connect(&mut self, host: &str) -> Result<Connecting, Infallible> {
        Ok(Connecting {
            tapping: self.clone(),
            host: host.to_owned(),
        })
    }
}

/// One connection to a host.
pub(super) struct Connecting {
    tapping: Tapping,
    host: String,
}

/// `SSLRequest`: the length and the number of that request.
const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 4, 210, 22, 47];

/// The server offers no TLS.
#[derive(Debug, thiserror::Error)]
#[error("the server offers no TLS")]
struct NoTls;

/// Whether the server offers no TLS where there must be some.
pub(super) fn without_tls(error: &tokio_postgres::Error) -> bool {
    let io = std::error::Error::source(error).and_then(|source| source.downcast_ref::<io::Error>());
    io.and_then(io::Error::get_ref)
        .and_then(|inner| inner.downcast_ref::<NoTls>())
        .is_some()
}

impl<S: Io> TlsConnect<S> for Connecting {
    type Stream = Tap<MaybeTls<S>>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Self::Stream>> + Send>>;

    fn connect(self, mut stream: S) -> Self::Future {
        Box::pin(async move {
            let Tapping {
                last,
                secured,
                is_direct,
            } = self.tapping;
            let Some(secured) = secured else {
                return Ok(Tap::new(MaybeTls::Plain(stream), last));
            };
            if !is_direct {
                stream.write_all(&SSL_REQUEST).await?;
                match stream.read_u8().await? {
                    b'S' => {}
                    b'N' if secured.mode == TlsMode::Prefer => {
                        return Ok(Tap::new(MaybeTls::Plain(stream), last));
                    }
                    _ => return Err(io::Error::other(NoTls)),
                }
            }
            let mut connector = secured.connector.clone();
            let connect = MakeTlsConnect::<S>::make_tls_connect(&mut connector, &self.host)
                .map_err(io::Error::other)?;
            let stream = connect.connect(stream).await?;
            Ok(Tap::new(MaybeTls::Tls(Box::new(stream)), last))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(kind: u8, body: &[u8]) -> Vec<u8> {
        let length = u32::try_from(body.len() + 4).expect("short");
        [&[kind], length.to_be_bytes().as_slice(), body].concat()
    }

    #[test]
    fn sqlstate_is_found_across_split_reads() {
        let bytes = [
            message(b'Z', b"I"),
            message(b'D', b"E\0\0\0\x0aCnone\0"),
            message(ERROR, b"SERROR\0VERROR\0C55P03\0Mcanceling statement\0\0"),
            message(b'1', b""),
            message(b'Z', b"E"),
        ]
        .concat();
        for size in 1..bytes.len() {
            let last = LastSqlState::default();
            let mut tap = Tap::new((), last.clone());
            for part in bytes.chunks(size) {
                tap.frames.pass(part);
            }
            assert_eq!(last.take().as_deref(), Some("55P03"), "cut to {size}");
            assert_eq!(last.take(), None);
        }
    }
}
