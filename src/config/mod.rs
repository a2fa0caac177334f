//! What an operator may set, as plain structs that cannot hold an invalid value.
//!
//! Knows nothing of sockets or tasks. A file becomes a [`Config`] in [`Config::from_file`], the command line's short form
//! in [`Config::for_upstreams`]; both give the same structs, so nothing below cares where a value came from.
//!
//! On the way: `file` turns text into untyped nodes, `build` and `pool` read those section by section (`section`) with the
//! readers in `value`, `word` and `address`, and `defaults` is the one table of keys. `source` reads where endpoints come from,
//! and files of endpoints.

mod address;
mod build;
mod changes;
mod defaults;
mod file;
mod flags;
mod load;
mod node;
mod pool;
mod section;
mod show;
mod source;
mod value;
mod violation;
mod word;

use std::{net::SocketAddr, num::NonZeroU32, path::PathBuf, time::Duration};

pub use changes::{Changes, Difference};
pub use defaults::{KEYS, Key, key_at};
pub use flags::Flags;
pub use load::{read, read_again};
pub use source::{endpoints_from_file, zone_from_text};
pub use value::duration_from_text;
pub use violation::{ConfigError, Violation, Violations};

/// Everything that can be set, checked and with every default filled in.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// At least one; their addresses differ.
    pub listeners: Vec<Listener>,
    /// At least one; their names differ.
    pub pools: Vec<Pool>,
    pub admin: Admin,
    pub log: Log,
    /// The zone that this process runs in; endpoints of the same one are preferred.
    pub zone: Option<String>,
    pub dns: Dns,
    /// Threads of the data plane; 1 is a current-thread runtime.
    pub threads: NonZeroU32,
    /// How long running exchanges may go on after SIGTERM.
    pub drain_deadline: Duration,
}

/// One socket that web servers connect to.
#[derive(Clone, Debug, PartialEq)]
pub struct Listener {
    pub address: ListenAddress,
    /// Name of the pool that serves it; one of [`Config::pools`].
    pub pool: String,
    /// Above so many connections at once a web server is answered 503.
    pub max_connections: u32,
    /// Exchanges at once on one connection; one more is answered 503, with CANT_MPX_CONN.
    pub max_requests_in_flight: u32,
    /// A web server that owes us bytes of a request and sends none for so long is hung up on.
    pub read_timeout: Duration,
    /// A web server that takes no byte of a response for so long is hung up on.
    pub write_timeout: Duration,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ListenAddress {
    Unix {
        path: PathBuf,
        /// Permission bits of the socket file.
        mode: u32,
        /// Group that owns the socket file, by name or number; none: that of the process.
        group: Option<String>,
    },
    Tcp(SocketAddr),
}

/// The endpoints of one application, their connections and the queue before them.
#[derive(Clone, Debug, PartialEq)]
pub struct Pool {
    /// `[a-z0-9_-]+`, used as a label value.
    pub name: String,
    pub application: Application,
    /// Where its endpoints come from. At least one; all different.
    pub endpoints: Vec<EndpointSource>,
    pub discovery: Discovery,
    /// An endpoint that comes later gets its share over so long; `None`: at once.
    pub slow_start: Option<Duration>,
    pub status: Status,
    pub ping: Ping,
    pub connections: Connections,
    pub queue: Queue,
    pub timeouts: Timeouts,
    pub on_failure: OnFailure,
    pub params: Params,
    pub body: Body,
    pub reuse_after_body: ReuseAfterBody,
    pub retry: Retry,
}

/// The dialect an application speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Application {
    /// One exchange at a time on a connection, and all that php-fpm does besides.
    PhpFpm,
    /// Any other. What it can is asked by GET_VALUES.
    Generic,
}

/// What endpoints are looked for in, and what holds for each that is found there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndpointSource {
    pub origin: Origin,
    /// Share of the load against that of others, 1 to 100.
    pub weight: u32,
    /// The zone that they serve; `None`: as the source says, or unknown.
    pub zone: Option<String>,
}

/// Shown (`Display`) as `10.0.0.7:9000`, `/run/php.sock`, `dns php.shop:9000`, `srv _fastcgi._tcp.php.shop`, `service
/// shop/php` or `file /etc/fcgimux/endpoints.yaml`, which is also the label `source` of the metrics.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The endpoint itself.
    Address(EndpointAddress),
    /// Every address of a DNS name.
    Dns { name: String, port: u16 },
    /// What the SRV records of a DNS name lead to.
    Srv { name: String },
    /// The ready pods behind a Service of Kubernetes.
    Service {
        /// `None`: that of this process.
        namespace: Option<String>,
        name: String,
        /// `None`: the only one there is.
        port: Option<ServicePort>,
    },
    /// A file that lists addresses, read by [`endpoints_from_file`].
    File(PathBuf),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ServicePort {
    Name(String),
    Number(u16),
}

/// Where one application listens. Shown (`Display`) as `ip:port` or as the path of the socket.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum EndpointAddress {
    Unix(PathBuf),
    Tcp(SocketAddr),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Discovery {
    /// A DNS name is asked again after its TTL, and after this at the latest.
    pub refresh: Duration,
}

/// The status page of php-fpm, where `pm.status_listen` keeps it apart from the workers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// On the endpoint's host; `None`: it is not read.
    pub port: Option<u16>,
    /// `pm.status_path`.
    pub path: String,
}

/// The active check of an endpoint by php-fpm's `ping.path`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ping {
    /// `None`: endpoints are judged by what happens to requests and connections alone.
    pub path: Option<String>,
    pub interval: Duration,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Connections {
    /// Connections in any state to one endpoint never exceed this.
    pub per_endpoint: u32,
    /// One idle connection per endpoint may stay for so long.
    pub idle_timeout: Duration,
    /// Idle connections beyond that one go after so long.
    pub surplus_idle: Duration,
    /// An endpoint of which we hold several workers, or for which exchanges wait, gets one back at least this often, so
    /// that other clients of the same application get their turn. `None`: never.
    pub yield_after: Option<Duration>,
    /// When a connection that has ended an exchange proves its worker free.
    pub fence: Fence,
    /// A connection idle for longer than this proves itself again in front of the next request.
    pub reprove_after: Duration,
    /// An idle connection is asked this often whether its worker is still there. `None`: never.
    pub heartbeat: Option<Duration>,
    pub max_age: Option<Duration>,
    pub max_requests: Option<u64>,
    /// Whether a connection carries many exchanges at once.
    pub multiplex: Multiplex,
    /// Exchanges at once on a connection that carries many.
    pub max_requests_in_flight: u32,
    /// Bytes kept of one exchange in each direction where its connection is shared.
    pub buffer: u64,
    /// An exchange whose full buffer has held up others for so long is aborted.
    pub stall_timeout: Duration,
}

/// Whether an application of the dialect `generic` takes many requests at once on a connection (FCGI_MPXS_CONNS).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Multiplex {
    /// It is asked.
    Auto,
    Always,
    Never,
}

/// When the GET_VALUES behind a finished exchange is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fence {
    /// At once; the connection is used again when it has been answered.
    Always,
    /// With a request that waits and may be repeated, in the same write, where no worker that has proved itself free is to
    /// be had and the endpoint's fences are answered at once; otherwise at once.
    Adaptive,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Queue {
    /// Waiters at most; one more is refused.
    pub depth: u32,
    pub timeout: Duration,
    pub abandoned: OnAbandoned,
}

/// What becomes of a request whose client leaves while it waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnAbandoned {
    /// It is never sent.
    Drop,
    /// It is executed in its turn, and its response thrown away.
    Run,
}

/// What a web server gets where its application cannot be reached, or breaks off before the first byte of a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnFailure {
    /// The end of its connection, as from the application itself: what is done about that is the web server's to decide.
    HangUp,
    /// A response with status 502, 503 or 504.
    Respond,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Timeouts {
    pub connect: Duration,
    /// From connected to the answer of the GET_VALUES handshake.
    pub prove: Duration,
    pub first_byte: Option<Duration>,
    pub between_bytes: Option<Duration>,
    /// From the lease to END_REQUEST.
    pub exchange: Option<Duration>,
}

#[derive(Clone, PartialEq)]
pub struct Params {
    /// Bytes of all name-value pairs together, encoded.
    pub max_size: u64,
    /// Number of pairs.
    pub max_count: u32,
    /// Names that a request may not carry (compared byte by byte).
    pub deny: Vec<String>,
    pub on_denied: OnDenied,
    /// Pairs that replace those of the web server, or are added.
    pub set: Vec<(String, String)>,
    /// Names taken out of every request.
    pub remove: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnDenied {
    Refuse,
    Strip,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Body {
    /// Larger bodies are refused with 413; `None`: the web server's own limit is the only one.
    pub max_size: Option<u64>,
    /// Bytes of one body kept in memory; the rest goes to an unlinked file.
    pub memory: u64,
    /// Where that file is made.
    pub directory: PathBuf,
}

/// After which bodies a connection may be used again (request smuggling, facts 10.5).
#[derive(Clone, Debug, PartialEq)]
pub struct ReuseAfterBody {
    /// POST bodies up to this, in bytes; `None`: after no body at all. Must not exceed PHP's `post_max_size`; above
    /// 16,384 PHP needs its temporary directory to read a body whole.
    pub post_up_to: Option<u64>,
    /// Whether multipart/form-data counts as such a POST: PHP may leave it half read (facts 10.5).
    pub multipart: bool,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Retry {
    /// How often one exchange may be sent again; 0 is written `off`.
    pub attempts: u32,
    /// Retries at most as a share of requests, 0.0 to 1.0 (besides a small constant for quiet times).
    pub budget: f64,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Admin {
    /// `None`: no admin server.
    pub listen: Option<SocketAddr>,
    pub verbs: Verbs,
}

/// Who may drain, pause and the like by way of the admin server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verbs {
    Off,
    /// A client whose address is that of this host itself.
    Loopback,
    /// Whoever can connect.
    On,
}

/// How names are resolved.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Dns {
    /// Those to ask; empty: those of /etc/resolv.conf.
    pub servers: Vec<SocketAddr>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Log {
    pub level: LogLevel,
    pub format: LogFormat,
    /// One line per exchange: for this share of those that went well, 0.0 to 1.0, and for all others. `None`: no line.
    pub access: Option<f64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogLevel {
    Error,
    Warn,
    Info,
    Debug,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    Json,
    Text,
}
