//! What passes TCP on: real proxies, and one that breaks off when it is told to.

use std::{
    io::{ErrorKind, Read, Write},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

use socket2::SockRef;

use crate::support::{Folder, Port, Process};
use nix::sys::signal::Signal;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    NginxStream,
    Haproxy,
    Socat,
}

/// A real proxy before one address.
pub(super) struct Proxy {
    kind: Kind,
    target: SocketAddr,
    folder: Folder,
    port: Port,
    process: Option<Process>,
}

impl Proxy {
    #[track_caller]
    pub(super) fn start(kind: Kind, target: SocketAddr) -> Self {
        let mut new = Self { kind, target, folder: Folder::new(), port: Port::free(), process: None };
        new.start_again();
        new
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.port.address()
    }

    /// Kills it with all of its connections.
    pub(super) fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.signal(Signal::SIGKILL);
            process.wait_exit(Duration::from_secs(5)).expect("what is killed ends");
        }
    }

    #[track_caller]
    pub(super) fn start_again(&mut self) {
        let (listen, target, path) = (self.address(), self.target, self.folder.path().display().to_string());
        let (program, arguments) = match self.kind {
            Kind::NginxStream => {
                let text = format!(
                    "daemon off;\npid {path}/nginx.pid;\nmaster_process off;\nerror_log {path}/error.log;\n\
                     load_module /usr/lib/nginx/modules/ngx_stream_module.so;\nevents {{}}\n\
                     stream {{ server {{ listen {listen}; proxy_pass {target}; }} }}\n"
                );
                let file = self.folder.write("nginx.conf", &text).display().to_string();
                ("nginx", vec!["-p".into(), path.clone(), "-e".into(), format!("{path}/error.log"), "-c".into(), file])
            }
            Kind::Haproxy => {
                let text = format!(
                    "global\n    maxconn 2000\ndefaults\n    mode tcp\n    timeout connect 5s\n    timeout client 60s\n    \
                     timeout server 60s\nlisten between\n    bind {listen}\n    server one {target}\n"
                );
                let file = self.folder.write("haproxy.cfg", &text).display().to_string();
                ("haproxy", vec!["-db".into(), "-f".into(), file])
            }
            Kind::Socat => {
                let bind = format!("TCP-LISTEN:{},bind={},reuseaddr,fork", listen.port(), listen.ip());
                ("socat", vec![bind, format!("TCP:{target}")])
            }
        };
        let mut process = Process::start(&self.folder, "proxy.log", program, arguments);
        process.wait_ready(&self.folder, || TcpStream::connect(listen).is_ok());
        self.process = Some(process);
    }
}

/// A proxy that passes on what comes to it, and at every so many-th piece of its clients' breaks off behind it: the server has the
/// piece, and the client a reset in place of an answer.
pub(super) struct Breaking {
    address: SocketAddr,
    over: Arc<AtomicBool>,
    broken: Arc<AtomicU64>,
}

impl Breaking {
    /// `each`: so many pieces; `least`: of those that have at least so many bytes.
    pub(super) fn start(target: SocketAddr, each: u64, least: usize) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("bound");
        let [pieces, broken] = [(); 2].map(|()| Arc::new(AtomicU64::new(0)));
        let over = Arc::new(AtomicBool::new(false));
        let (ended, counted) = (over.clone(), broken.clone());
        thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                if ended.load(Ordering::Relaxed) {
                    return;
                }
                let (pieces, broken) = (pieces.clone(), counted.clone());
                thread::spawn(move || relay(client, target, each, least, &pieces, &broken));
            }
        });
        Self { address, over, broken }
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// How often it has broken off.
    pub(super) fn broken(&self) -> u64 {
        self.broken.load(Ordering::Relaxed)
    }
}

impl Drop for Breaking {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        // It looks once more.
        _ = TcpStream::connect(self.address);
    }
}

fn relay(client: TcpStream, target: SocketAddr, each: u64, least: usize, pieces: &AtomicU64, broken: &AtomicU64) {
    let Ok(server) = TcpStream::connect(target) else { return };
    [&client, &server].iter().for_each(|socket| socket.set_nodelay(true).expect("nodelay"));
    // A close is a reset.
    SockRef::from(&client).set_linger(Some(Duration::ZERO)).expect("linger");
    let (client, server, over) = (Arc::new(client), Arc::new(server), Arc::new(AtomicBool::new(false)));
    let answers = {
        let (client, server, over) = (client.clone(), server.clone(), over.clone());
        thread::spawn(move || pass_answers(&server, client, &over))
    };
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(len @ 1..) = (&*client).read(&mut buffer) {
        let counts = len >= least && (pieces.fetch_add(1, Ordering::Relaxed) + 1).is_multiple_of(each);
        // Nothing of the answer gets through.
        over.fetch_or(counts, Ordering::Relaxed);
        let passed = (&*server).write_all(&buffer[..len]).is_ok();
        if counts {
            broken.fetch_add(1, Ordering::Relaxed);
        }
        if counts || !passed {
            break;
        }
    }
    // The worker is not kept.
    _ = server.shutdown(Shutdown::Write);
    over.store(true, Ordering::Relaxed);
    drop(client);
    answers.join().expect("no panic");
}

/// Until it is over; then the client is let go, and the server heard to its end.
fn pass_answers(server: &TcpStream, client: Arc<TcpStream>, over: &AtomicBool) {
    server.set_read_timeout(Some(Duration::from_millis(2))).expect("a timeout");
    let (mut buffer, mut client) = (vec![0; 64 * 1024], Some(client));
    loop {
        client.take_if(|_| over.load(Ordering::Relaxed));
        match (&*server).read(&mut buffer) {
            Ok(0) => break,
            Ok(len) => {
                if let Some(client) = client.as_ref().filter(|_| !over.load(Ordering::Relaxed)) {
                    _ = (&**client).write_all(&buffer[..len]);
                }
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            Err(_) => break,
        }
    }
    if let Some(client) = client {
        _ = client.shutdown(Shutdown::Write);
    }
}
