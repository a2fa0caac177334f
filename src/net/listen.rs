//! Listening sockets: bound without a gap, never in place of a live one, and accepted from until they are removed.

use super::{
    serve::{Sites, serve},
    socket::{Socket, watched},
};
use crate::{
    config::{ListenAddress, Listener},
    metrics::Metrics,
};
use nix::{
    fcntl::{AT_FDCWD, AtFlags},
    sys::stat::{FchmodatFlags, Mode, fchmod, fchmodat, umask},
    unistd::{Gid, Group, fchownat, getegid},
};
use socket2::{Domain, SockAddr, SockRef, Type};
use std::{
    fs, io,
    net::SocketAddr,
    os::{
        fd::OwnedFd,
        unix::fs::{FileTypeExt, MetadataExt},
    },
    path::{Path, PathBuf},
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::Duration,
};
use tokio::io::unix::AsyncFd;
use tokio_util::sync::CancellationToken;

/// Connections that may wait to be accepted: a full backlog of a Unix socket is an instant 502 in nginx (EAGAIN). The
/// kernel cuts it to net.core.somaxconn.
pub const BACKLOG: i32 = 4096;
/// Connections beyond `max_connections` that are told so; further ones are closed without a word.
const REFUSED_AT_ONCE: u32 = 512;
/// Accepted in a row before others get their turn.
const BATCH: usize = 64;
/// Pause after accept failed for want of file descriptors or memory.
const PAUSE: Duration = Duration::from_millis(20);

/// Why a listener could not be bound.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    #[error("{path}: another process listens there; stop it, or choose another socket")]
    Live { path: PathBuf },
    #[error("{path} exists and is no socket; remove it, or choose another path")]
    NoSocket { path: PathBuf },
    #[error("{path}: its directory does not exist; make it, writable for this user")]
    NoDirectory { path: PathBuf },
    #[error("{path}: no group {group:?} on this system")]
    NoGroup { path: PathBuf, group: String },
    #[error("{path}: the socket's file has been removed or replaced; restart to listen there again")]
    Gone { path: PathBuf },
    #[error("cannot listen on {address}: {error} ({doing})")]
    Io { address: String, doing: &'static str, error: io::Error },
}

/// A socket that is bound and listens; its file goes when this is dropped.
#[derive(Debug)]
pub(super) struct Bound {
    pub(super) socket: socket2::Socket,
    pub(super) place: Place,
}

/// Where a socket listens.
#[derive(Debug)]
pub(super) enum Place {
    File(SocketFile),
    Tcp(SocketAddr),
}

impl Place {
    /// The port, of a TCP listener.
    pub(super) fn tcp_port(&self) -> Option<u16> {
        match self {
            Self::Tcp(address) => Some(address.port()),
            Self::File(_) => None,
        }
    }

    /// Nobody finds it any more. A TCP port is given up with its socket.
    pub(super) fn remove(&self) {
        if let Self::File(file) = self {
            file.remove();
        }
    }

    /// Gives the socket's file the permission bits and the group of other settings.
    ///
    /// # Errors
    /// See [`ListenError`].
    pub(super) fn adapt(&self, from: &ListenAddress, to: &ListenAddress) -> Result<(), ListenError> {
        match (self, from, to) {
            (Self::File(file), ListenAddress::Unix { group: before, .. }, ListenAddress::Unix { mode, group, .. }) => {
                file.adapt(*mode, (before != group).then_some(group.as_deref()))
            }
            _ => Ok(()),
        }
    }
}

/// The file of a Unix socket: ours only as long as it is the same one.
#[derive(Debug)]
pub(super) struct SocketFile {
    path: PathBuf,
    inode: u64,
    removed: AtomicBool,
}

impl SocketFile {
    /// Once: a file that comes after it may have its inode.
    fn remove(&self) {
        if !self.removed.swap(true, Ordering::Relaxed) && self.is_ours() {
            // It is only in the way of nobody.
            _ = fs::remove_file(&self.path);
        }
    }

    fn is_ours(&self) -> bool {
        fs::symlink_metadata(&self.path).is_ok_and(|found| found.ino() == self.inode)
    }

    fn adapt(&self, mode: u32, group: Option<Option<&str>>) -> Result<(), ListenError> {
        if !self.is_ours() {
            return Err(ListenError::Gone { path: self.path.clone() });
        }
        set_access(&self.path, mode, group)
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        self.remove();
    }
}

impl Bound {
    /// # Errors
    /// See [`ListenError`].
    pub(super) fn new(listener: &Listener) -> Result<Self, ListenError> {
        match &listener.address {
            ListenAddress::Tcp(address) => {
                let bound = bind_tcp(*address);
                bound.map_err(|error| ListenError::Io { address: address.to_string(), doing: "bind", error })
            }
            ListenAddress::Unix { path, mode, group } => bind_unix(path, *mode, group.as_deref()),
        }
    }
}

fn bind_tcp(address: SocketAddr) -> io::Result<Bound> {
    let socket = socket2::Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    socket.set_nonblocking(true)?;
    let address = socket.local_addr()?.as_socket().unwrap_or(address);
    Ok(Bound { socket, place: Place::Tcp(address) })
}

/// Binds at the path itself, so that the socket has its name, with the right mode from the first moment.
fn bind_unix(path: &Path, mode: u32, group: Option<&str>) -> Result<Bound, ListenError> {
    let failed = |doing| move |error: io::Error| ListenError::Io { address: path.display().to_string(), doing, error };
    refuse_live(path)?;
    if !path.parent().is_some_and(Path::is_dir) {
        return Err(ListenError::NoDirectory { path: path.into() });
    }
    // Before the path is touched: a name that is not there is the likeliest fault.
    let group = group.map(|name| group_of(path, Some(name))).transpose()?;
    let socket = socket2::Socket::new(Domain::UNIX, Type::STREAM, None).map_err(failed("socket"))?;
    let address = SockAddr::unix(path).map_err(failed("path"))?;
    // Left over from a process that was killed: nobody listens there.
    _ = fs::remove_file(path);
    bind_with_mode(&socket, &address, mode).map_err(failed("bind"))?;
    let file = || -> io::Result<SocketFile> {
        let inode = fs::symlink_metadata(path)?.ino();
        Ok(SocketFile { path: path.into(), inode, removed: AtomicBool::new(false) })
    };
    let file = file().map_err(failed("look at it"))?;
    if let Some(group) = group {
        set_group(path, group).map_err(failed("change its group"))?;
    }
    socket.listen(BACKLOG).map_err(failed("listen"))?;
    socket.set_nonblocking(true).map_err(failed("listen"))?;
    Ok(Bound { socket, place: Place::File(file) })
}

/// The file that `bind` makes takes the mode of the socket, less the process's umask. Nothing else that is made meanwhile
/// relies on the umask: bodies are stored in files of mode 0600.
fn bind_with_mode(socket: &socket2::Socket, address: &SockAddr, mode: u32) -> io::Result<()> {
    fchmod(socket, Mode::from_bits_truncate(mode))?;
    let before = umask(Mode::empty());
    let bound = socket.bind(address);
    umask(before);
    bound
}

/// Never follows a link: the folder may be writable for others.
fn set_group(path: &Path, group: Gid) -> io::Result<()> {
    Ok(fchownat(AT_FDCWD, path, None, Some(group), AtFlags::AT_SYMLINK_NOFOLLOW)?)
}

/// Permission bits and group of the socket at `path`. `Some(None)` is the group of the process, `None` the one it has.
fn set_access(path: &Path, mode: u32, group: Option<Option<&str>>) -> Result<(), ListenError> {
    let failed = |doing| move |error: io::Error| ListenError::Io { address: path.display().to_string(), doing, error };
    if let Some(group) = group {
        set_group(path, group_of(path, group)?).map_err(failed("change its group"))?;
    }
    let mode = Mode::from_bits_truncate(mode);
    fchmodat(AT_FDCWD, path, mode, FchmodatFlags::FollowSymlink)
        .map_err(|error| failed("change its mode")(error.into()))
}

/// `None` is the group of the process.
fn group_of(path: &Path, name: Option<&str>) -> Result<Gid, ListenError> {
    let Some(name) = name else { return Ok(getegid()) };
    find_group(name).ok_or_else(|| ListenError::NoGroup { path: path.into(), group: name.into() })
}

/// A file that nobody listens on is left over and may be replaced.
fn refuse_live(path: &Path) -> Result<(), ListenError> {
    match fs::symlink_metadata(path) {
        Ok(found) if !found.file_type().is_socket() => Err(ListenError::NoSocket { path: path.into() }),
        Ok(_) => match try_connect(path) {
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => Ok(()),
            _ => Err(ListenError::Live { path: path.into() }),
        },
        Err(_) => Ok(()),
    }
}

/// Never waits: whoever listens there may accept nothing.
fn try_connect(path: &Path) -> io::Result<()> {
    let socket = socket2::Socket::new(Domain::UNIX, Type::STREAM.nonblocking(), None)?;
    socket.connect(&SockAddr::unix(path)?)
}

fn find_group(group: &str) -> Option<Gid> {
    match group.parse() {
        Ok(number) => Some(Gid::from_raw(number)),
        Err(_) => Group::from_name(group).ok().flatten().map(|found| found.gid),
    }
}

/// How many connections a listener has; shared with those that are being served.
#[derive(Debug, Default)]
struct Open(AtomicU32);

/// Accepts and serves until `stop`; whoever has connected by then is served.
pub(super) async fn accept(socket: socket2::Socket, sites: Arc<Sites>, stop: CancellationToken, metrics: Arc<Metrics>) {
    let listener = match watched(socket.into()) {
        Ok(listener) => listener,
        Err(error) => return tracing::error!("cannot listen: {error}"),
    };
    let open = Arc::new(Open::default());
    let mut stopped = pin!(stop.cancelled());
    loop {
        let mut guard = tokio::select! {
            biased;
            () = &mut stopped => break,
            ready = listener.readable() => match ready {
                Ok(guard) => guard,
                // The runtime is shutting down.
                Err(_) => return,
            },
        };
        match accept_some(&listener, &sites, &open, &metrics) {
            Ok(true) => {}
            Ok(false) => guard.clear_ready(),
            Err(error) => {
                tracing::warn!("cannot accept a connection: {error}; trying again");
                tokio::time::sleep(PAUSE).await;
            }
        }
        tokio::task::yield_now().await;
    }
    // They have connected, and would see that end with the socket.
    while let Ok(true) = accept_some(&listener, &sites, &open, &metrics) {}
}

/// Returns whether there may be more.
fn accept_some(
    listener: &AsyncFd<OwnedFd>,
    sites: &Arc<Sites>,
    open: &Arc<Open>,
    metrics: &Arc<Metrics>,
) -> io::Result<bool> {
    for _ in 0..BATCH {
        match SockRef::from(listener.get_ref()).accept() {
            Ok((socket, from)) => {
                if !from.is_unix() {
                    // A socket that refuses is broken, and reading will say so.
                    _ = socket.set_tcp_nodelay(true);
                }
                start(socket, sites, open, metrics);
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
            Err(error) if is_of_one_connection(&error) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(true)
}

/// Errors that are no reason to pause: the connection was gone before it was accepted, or a signal came.
fn is_of_one_connection(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::ConnectionAborted | io::ErrorKind::Interrupted)
}

fn start(socket: socket2::Socket, sites: &Arc<Sites>, open: &Arc<Open>, metrics: &Arc<Metrics>) {
    let limit = sites.load().listener.max_connections;
    let now_open = open.0.fetch_add(1, Ordering::Relaxed) + 1;
    let entry = Entry { open: open.clone(), metrics: metrics.clone() };
    metrics.downstream_connections().inc();
    if now_open > limit.saturating_add(REFUSED_AT_ONCE) {
        return; // and with the entry, and the socket, it is closed
    }
    let sites = sites.clone();
    tokio::spawn(async move {
        serve(sites, Socket::plain(OwnedFd::from(socket)), now_open > limit).await;
        drop(entry);
    });
}

/// One connection that is being served.
struct Entry {
    open: Arc<Open>,
    metrics: Arc<Metrics>,
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.open.0.fetch_sub(1, Ordering::Relaxed);
        self.metrics.downstream_connections().dec();
    }
}
