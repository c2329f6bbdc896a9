//! An HTTP/1.1 client over one keep-alive connection, with one request in flight. [`drive`](crate::drive)
//! holds one for each unit of concurrency; the benchmark also reads metrics with it. The caller that awaits an
//! answer polls the connection, so that it needs no task of its own.

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

use crate::request::{Request, Target};

const USER_ID: HeaderName = HeaderName::from_static("x-user-id");
const ZERO: HeaderValue = HeaderValue::from_static("0");
const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// The outcome of a request: its 2xx status, or why it failed.
pub type Outcome = Result<StatusCode, Failure>;

/// Why a request was not accepted. Failures of one kind are counted together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, thiserror::Error)]
pub enum Failure {
    /// The server answered with a status other than 2xx.
    #[error("HTTP {0}")]
    Status(StatusCode),
    /// The whole answer did not arrive within the timeout, connecting included.
    #[error("timed out")]
    TimedOut,
    /// No connection could be made.
    #[error("cannot connect: {0}")]
    Connect(Cause),
    /// The connection failed before the whole answer. The server may have executed the request.
    #[error("connection broke before the whole answer: {0}")]
    Broken(Cause),
    /// The server closed the connection before the whole answer. It may have executed the request.
    #[error("connection closed before the whole answer")]
    Closed,
    /// The answer is not HTTP/1.
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

/// Checks that the server accepts connections: connects once and closes the connection.
pub(crate) async fn probe(target: &Target, limit: Duration) -> io::Result<()> {
    match timeout(limit, connect(target)).await {
        Ok(connected) => connected.map(drop),
        Err(_) => Err(io::ErrorKind::TimedOut.into()),
    }
}

/// Sends requests one after another, and reconnects when the connection is closed.
pub struct Client<'a> {
    target: &'a Target,
    timeout: Duration,
    // None before the first connection and after a failure.
    link: Option<Link>,
    /// The body of the last whole answer.
    body: Vec<u8>,
}

impl<'a> Client<'a> {
    /// Connects before the first request, so that the latency of that request excludes connecting. If this
    /// fails, the first request connects and reports the failure. `limit` bounds each request, connecting
    /// included.
    pub async fn open(target: &'a Target, limit: Duration) -> Self {
        let link = timeout(limit, Link::open(target)).await;
        Self {
            target,
            timeout: limit,
            link: link.ok().and_then(Result::ok),
            body: Vec::new(),
        }
    }

    /// The body of the last whole answer; empty if the last request failed without one.
    pub fn body(&self) -> &[u8] {
        &self.body
    }

    /// Sends a request and reads the whole answer.
    ///
    /// # Errors
    /// When no whole answer arrives, or its status is not 2xx.
    pub async fn send(&mut self, request: &Request) -> Outcome {
        self.body.clear();
        let outcome = timeout(self.timeout, self.exchange(request)).await;
        let outcome = outcome.unwrap_or(Err(Failure::TimedOut));
        // What has arrived of a broken answer is not shown as one.
        let status = outcome.inspect_err(|_| self.body.clear())?;
        if status.is_success() {
            Ok(status)
        } else {
            Err(Failure::Status(status))
        }
    }

    async fn exchange(&mut self, request: &Request) -> Outcome {
        // The connection is put back only after a whole answer. A failure or a timeout drops it, so that no
        // later request receives the answer of an earlier one.
        let mut kept = self.link.take();
        // Servers close idle connections. That is not a failure of the next request.
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
    headers.insert(USER_ID, target.user(request.user_id));
    if request.method == Method::PUT {
        headers.insert(CONTENT_LENGTH, ZERO);
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

/// Awaits `answer` while polling the connection; `None` if the connection ends first.
async fn while_polling<T>(
    connection: &mut Connection<TokioIo<TcpStream>, Full<Bytes>>,
    closed: &mut bool,
    answer: impl Future<Output = T>,
) -> Option<T> {
    let mut answer = pin!(answer);
    poll_fn(|context| {
        // The connection's error also reaches the answer, which gives it a more precise kind.
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
    fn failures_of_one_cause_are_equal_and_keep_the_os_message() {
        let refused = || Failure::Connect(Cause::from(&io::Error::from_raw_os_error(111)));
        assert_eq!(refused(), refused());
        assert!(refused().to_string().contains("(os error 111)"));
        let eof = Cause::from(&io::Error::from(io::ErrorKind::UnexpectedEof));
        assert_eq!(eof.to_string(), "unexpected end of file");
    }
}
