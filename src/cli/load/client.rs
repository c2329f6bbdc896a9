//! One keep-alive HTTP/1 connection that sends one request at a time. `drive` holds as many as the load's
//! concurrency. A connection is polled by whoever waits for its answer, so it needs no task of its own.

use std::error::Error;
use std::fmt;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::{Pin, pin};
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::{self, Connection, SendRequest};
use hyper::header::{CONTENT_LENGTH, CONTENT_TYPE, HOST, HeaderName, HeaderValue};
use hyper::{Method, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::request::{Request, Target};

const USER_ID: HeaderName = HeaderName::from_static("x-user-id");
const NOTHING: HeaderValue = HeaderValue::from_static("0");
const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// What became of a request: the 2xx status that accepted it, or why it failed.
pub type Outcome = Result<StatusCode, Failure>;

/// Why a request was not accepted. Failures of one kind are counted together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, thiserror::Error)]
pub enum Failure {
    /// The server answered, and not with 2xx.
    #[error("HTTP {0}")]
    Status(StatusCode),
    /// No connection, or no whole answer, within the time-out.
    #[error("timed out")]
    TimedOut,
    /// No connection could be made.
    #[error("cannot connect: {0}")]
    Connect(Cause),
    /// The connection broke while the answer was awaited: the request may have been carried out.
    #[error("connection broke before the whole answer: {0}")]
    Broken(Cause),
    /// The server closed the connection while the answer was awaited: the request may have been carried out.
    #[error("connection closed before the whole answer")]
    Closed,
    /// What came back is not HTTP/1.
    #[error("answer is not HTTP/1")]
    Malformed,
}

/// An [`io::Error`] that can be copied and counted. The system's code is kept because some causes, such as too
/// many open files, have no kind of their own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Cause {
    kind: io::ErrorKind,
    code: Option<i32>,
}

impl From<&io::Error> for Cause {
    fn from(error: &io::Error) -> Self {
        Self {
            kind: error.kind(),
            code: error.raw_os_error(),
        }
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.code {
            Some(code) => io::Error::from_raw_os_error(code).fmt(f),
            None => self.kind.fmt(f),
        }
    }
}

impl From<hyper::Error> for Failure {
    fn from(error: hyper::Error) -> Self {
        let io_error = error
            .source()
            .and_then(|source| source.downcast_ref::<io::Error>());
        if let Some(io_error) = io_error {
            Self::Broken(io_error.into())
        } else if error.is_parse() {
            Self::Malformed
        } else {
            Self::Closed
        }
    }
}

/// Connects once and hangs up, to learn whether the server is there at all.
pub(super) async fn probe(target: &Target, patience: Duration) -> io::Result<()> {
    match timeout(patience, connect(target)).await {
        Ok(connected) => connected.map(drop),
        Err(_) => Err(io::ErrorKind::TimedOut.into()),
    }
}

/// A place in the load: sends requests one after another, and connects anew when the connection is gone.
pub(super) struct Client<'a> {
    target: &'a Target,
    patience: Duration,
    // None before the first connection and after a failure.
    link: Option<Link>,
    /// The body of the last whole answer.
    body: Vec<u8>,
}

impl<'a> Client<'a> {
    /// Connects ahead of the first request, so that connecting is no part of its latency. A connection that
    /// cannot be made now is tried again, and counted, with that request.
    pub(super) async fn open(target: &'a Target, patience: Duration) -> Self {
        let link = timeout(patience, Link::open(target)).await;
        Self {
            target,
            patience,
            link: link.ok().and_then(Result::ok),
            body: Vec::new(),
        }
    }

    /// The body of the last answer; empty if there was none.
    pub(super) fn body(&self) -> &[u8] {
        &self.body
    }

    /// Sends a request and reads the whole answer.
    pub(super) async fn send(&mut self, request: &Request) -> Outcome {
        self.body.clear();
        let status = timeout(self.patience, self.exchange(request))
            .await
            .unwrap_or(Err(Failure::TimedOut))?;
        if status.is_success() {
            Ok(status)
        } else {
            Err(Failure::Status(status))
        }
    }

    async fn exchange(&mut self, request: &Request) -> Outcome {
        // Taken out and only put back after a whole answer: a failure or a time-out drops the connection, and
        // no later request can be given an answer that is not its own.
        let mut kept = self.link.take();
        // Servers close connections that idle: that is no failure of the request that comes next.
        if let Some(link) = &mut kept
            && !link.is_ready().await
        {
            kept = None;
        }
        let mut link = match kept {
            Some(link) => link,
            None => Link::open(self.target).await?,
        };
        let status = link
            .exchange(render(request, self.target), &mut self.body)
            .await?;
        self.link = Some(link);
        Ok(status)
    }
}

fn render(request: &Request, target: &Target) -> hyper::Request<Full<Bytes>> {
    let mut rendered = hyper::Request::new(Full::new(request.body.clone()));
    *rendered.method_mut() = request.method.clone();
    *rendered.uri_mut() = request.path.clone();
    let headers = rendered.headers_mut();
    headers.reserve(4);
    headers.insert(HOST, target.authority.clone());
    headers.insert(USER_ID, request.user_id.into());
    if request.method == Method::PUT {
        headers.insert(CONTENT_LENGTH, NOTHING);
    }
    if !request.body.is_empty() {
        headers.insert(CONTENT_TYPE, JSON);
    }
    rendered
}

async fn connect(target: &Target) -> io::Result<TcpStream> {
    let stream = TcpStream::connect((target.host.as_str(), target.port)).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// An established connection.
struct Link {
    sender: SendRequest<Full<Bytes>>,
    connection: Connection<TokioIo<TcpStream>, Full<Bytes>>,
    closed: bool,
}

impl Link {
    async fn open(target: &Target) -> Result<Self, Failure> {
        let stream = connect(target)
            .await
            .map_err(|error| Failure::Connect((&error).into()))?;
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        Ok(Self {
            sender,
            connection,
            closed: false,
        })
    }

    /// Whether the server still holds the connection open and a request can go out on it.
    async fn is_ready(&mut self) -> bool {
        let Self {
            sender,
            connection,
            closed,
        } = self;
        let ready = while_polling(connection, closed, sender.ready()).await;
        matches!(ready, Some(Ok(()))) && !*closed
    }

    async fn exchange(
        &mut self,
        request: hyper::Request<Full<Bytes>>,
        kept: &mut Vec<u8>,
    ) -> Result<StatusCode, Failure> {
        let Self {
            sender,
            connection,
            closed,
        } = self;
        let answer = async {
            let response = sender.send_request(request).await?;
            let status = response.status();
            let mut body = response.into_body();
            // A connection can carry the next request only once this answer has been read to its end.
            while let Some(frame) = body.frame().await {
                if let Some(data) = frame?.data_ref() {
                    kept.extend_from_slice(data);
                }
            }
            Ok::<_, hyper::Error>(status)
        };
        match while_polling(connection, closed, answer).await {
            Some(outcome) => Ok(outcome?),
            None => Err(Failure::Closed),
        }
    }
}

/// Waits for something that only comes about while the connection is polled; `None` if the connection ends
/// without it.
async fn while_polling<T>(
    connection: &mut Connection<TokioIo<TcpStream>, Full<Bytes>>,
    closed: &mut bool,
    answer: impl Future<Output = T>,
) -> Option<T> {
    let mut answer = pin!(answer);
    poll_fn(|context| {
        // The connection's own error also reaches the answer, which knows better what it means.
        *closed = *closed || Pin::new(&mut *connection).poll(context).is_ready();
        match answer.as_mut().poll(context) {
            Poll::Ready(answer) => Poll::Ready(Some(answer)),
            Poll::Pending if *closed => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        }
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_of_one_cause_are_one_kind_and_keep_what_the_system_said() {
        let refused = || Failure::Connect(Cause::from(&io::Error::from_raw_os_error(111)));
        assert_eq!(refused(), refused());
        assert!(refused().to_string().contains("(os error 111)"));
        let eof = Cause::from(&io::Error::from(io::ErrorKind::UnexpectedEof));
        assert_eq!(eof.to_string(), "unexpected end of file");
    }
}
