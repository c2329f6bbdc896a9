//! The HTTP server: its middleware, its routes and its connections.

use std::future::ready;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use actix_http::{ConnectionType, HttpService};
use actix_server::Server;
use actix_service::{IntoServiceFactory, Service, ServiceFactoryExt, fn_service, map_config};
use actix_web::App as WebApp;
use actix_web::dev::AppConfig;
use actix_web::middleware::{Condition, from_fn};
use actix_web::rt::net::TcpStream;
use actix_web::web::{Data, PayloadConfig};
use socket2::{Domain, Protocol, Socket, Type};

use crate::admin::AdminService;
use crate::config::Role;
use crate::likes::Likes;
use crate::web;
use crate::web::slow_clients::{HEAD_TIMEOUT, TimedStream};

/// The number of connections that wait to be accepted, as the standard library has it.
const BACKLOG: i32 = 128;

/// An address that belongs to this process. Connections to it are refused until the process listens.
pub(super) struct BoundAddress(Socket);

impl BoundAddress {
    /// Binds an address, as the standard library does before it listens.
    ///
    /// # Errors
    /// If another process listens on the address, or this machine does not have it.
    pub(super) fn bind(address: SocketAddr) -> std::io::Result<Self> {
        let domain = Domain::for_address(address);
        let socket = Socket::new(domain, Type::STREAM, Some(Protocol::TCP))?;
        // Connections of an earlier process may still be closing.
        socket.set_reuse_address(true)?;
        socket.bind(&address.into())?;
        Ok(Self(socket))
    }

    /// Listens.
    ///
    /// # Errors
    /// If another process has bound the address too, and listens meanwhile.
    pub(super) fn listen(self) -> std::io::Result<TcpListener> {
        self.0.listen(BACKLOG)?;
        Ok(self.0.into())
    }
}

/// The parts of the HTTP server.
pub(super) struct HttpServer {
    pub(super) context: web::Context,
    pub(super) likes: Arc<Likes>,
    pub(super) admin: AdminService,
    pub(super) role: Role,
    pub(super) origins: Vec<String>,
    /// Set when the service shuts down. Responses then close their connections, so that proxies do not reuse them.
    pub(super) draining: Arc<web::Draining>,
}

impl HttpServer {
    /// Builds the server: actix-web's `HttpServer` with connections that cut off slow clients.
    ///
    /// # Errors
    /// If the address of the listener is unknown, or the listener cannot be used.
    pub(super) fn listen(self, listener: TcpListener) -> std::io::Result<Server> {
        let Self {
            context,
            likes,
            admin,
            role,
            origins,
            draining,
        } = self;
        let address = listener.local_addr()?;
        let builder = Server::build();
        let shutdown = builder.graceful_shutdown_signal();
        let builder = builder
            .workers(std::thread::available_parallelism().map_or(2, usize::from))
            .disable_signals()
            .shutdown_timeout(8)
            .listen("likewise", listener, move || {
                let draining = Arc::clone(&draining);
                let app = WebApp::new()
                    // The last is the outermost, so that CORS and the bounds cover the answers of the others.
                    .wrap(Condition::new(context.limits.any(), from_fn(web::limit)))
                    .wrap(from_fn(web::guard))
                    .wrap(from_fn(web::bound))
                    .wrap(Condition::new(!origins.is_empty(), web::cors(&origins)))
                    .wrap_fn(move |request, next| {
                        let pending = web::Pending::of(&request);
                        let answer = next.call(request);
                        let draining = Arc::clone(&draining);
                        async move {
                            let answer = answer.await;
                            pending.answered(&answer);
                            let mut response = answer?;
                            web::harden(response.headers_mut());
                            if draining.has_begun() {
                                let head = response.response_mut().head_mut();
                                head.set_connection_type(ConnectionType::Close);
                            }
                            Ok(response)
                        }
                    })
                    .app_data(Data::from(Arc::clone(&likes)))
                    .configure(|config| context.register(config))
                    .app_data(Data::new(admin.clone()))
                    .app_data(PayloadConfig::new(web::bounds::BODY_LIMIT))
                    .configure(|config| web::routes(config, role, likes.resource_types()))
                    .into_factory()
                    .map_err(|error| {
                        let mut response = error.error_response();
                        web::harden(response.headers_mut());
                        response
                    });
                let shutdown = shutdown.clone();
                let http = HttpService::build()
                    .graceful_shutdown_signal(move || {
                        let shutdown = shutdown.clone();
                        async move { shutdown.notified().await }
                    })
                    .client_request_timeout(HEAD_TIMEOUT)
                    .client_disconnect_timeout(Duration::from_secs(1))
                    .local_addr(address)
                    .on_connect_ext(|stream: &TimedStream, data| {
                        data.insert(stream.activity());
                    })
                    .h1(map_config(app, |()| AppConfig::default()));
                fn_service(|stream: TcpStream| {
                    let peer = stream.peer_addr().ok();
                    ready(Ok((TimedStream::new(stream), peer)))
                })
                .and_then(http)
            })?;
        Ok(builder.run())
    }
}
