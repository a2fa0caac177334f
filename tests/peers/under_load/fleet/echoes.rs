//! Scripted applications at many addresses, which behave like php-fpm towards one request at a time and cost next to
//! nothing; and a web server that asks them for nothing but their names.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    thread,
    time::{Duration, Instant},
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream, UnixStream},
    runtime::Builder,
    sync::oneshot,
    task::{JoinSet, LocalSet},
    time::sleep_until,
};

use crate::support::{
    Port,
    fcgi::{
        BEGIN_REQUEST, END_REQUEST, GET_VALUES, GET_VALUES_RESULT, PARAMS, STDOUT, begin, end_request, pair, params,
        record, stdin_end,
    },
};

/// What the applications are asked for, in the param QUERY_STRING.
const TOKEN: usize = 16;

/// One application each at 127.1.0.1, 127.1.0.2, ..., all at one port.
pub(crate) struct Echoes {
    _port: Port,
    shared: Arc<Vec<Echo>>,
    _stop: oneshot::Sender<()>,
}

pub(crate) struct Echo {
    pub(crate) address: SocketAddr,
    /// It closes the connection where an answer is due.
    hangs_up: AtomicBool,
    requests: AtomicU64,
}

impl Echoes {
    /// So many of them.
    pub(crate) fn start(count: u16) -> Self {
        let port = Port::free();
        let echo = |number: u16| {
            let [high, low] = number.to_be_bytes();
            let address = SocketAddr::from((Ipv4Addr::new(127, 1, high, low), port.number()));
            Echo { address, hangs_up: AtomicBool::new(false), requests: AtomicU64::new(0) }
        };
        let shared: Arc<Vec<_>> = Arc::new((1..=count).map(echo).collect());
        let (stop, stopped) = oneshot::channel::<()>();
        let (bound, is_bound) = oneshot::channel::<()>();
        let ours = Arc::clone(&shared);
        thread::spawn(move || {
            let runtime = Builder::new_current_thread().enable_all().build().expect("runtime");
            LocalSet::new().block_on(&runtime, async {
                for index in 0..ours.len() {
                    let listener = TcpListener::bind(ours[index].address).await.expect("bind");
                    tokio::task::spawn_local(accept(listener, Arc::clone(&ours), index));
                }
                let _ = bound.send(());
                let _ = stopped.await;
            });
        });
        is_bound.blocking_recv().expect("the applications listen");
        Self { _port: port, shared, _stop: stop }
    }

    /// As items of a list of endpoints.
    pub(crate) fn items(&self) -> Vec<String> {
        self.shared.iter().map(|echo| format!("{{address: \"{}\"}}", echo.address)).collect()
    }

    pub(crate) fn address(&self, index: usize) -> SocketAddr {
        self.shared[index].address
    }

    /// From now on one closes the connection where an answer is due; or no longer.
    pub(crate) fn hang_up(&self, index: usize, hangs_up: bool) {
        self.shared[index].hangs_up.store(hangs_up, Relaxed);
    }

    /// Requests that each of them has read.
    pub(crate) fn requests(&self) -> Vec<u64> {
        self.shared.iter().map(|echo| echo.requests.load(Relaxed)).collect()
    }
}

async fn accept(listener: TcpListener, all: Arc<Vec<Echo>>, index: usize) {
    while let Ok((stream, _)) = listener.accept().await {
        let all = Arc::clone(&all);
        tokio::task::spawn_local(async move {
            let _ = serve(stream, &all[index]).await;
        });
    }
}

async fn serve(mut stream: TcpStream, echo: &Echo) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let (mut buffer, mut query, mut keep) = (Vec::with_capacity(4096), [b'?'; TOKEN], true);
    loop {
        let mut out = Vec::new();
        let mut at = 0;
        while let Some((kind, id, content, end)) = next(&buffer, at) {
            at = end;
            match kind {
                GET_VALUES => out.extend(record(GET_VALUES_RESULT, 0, &pair(b"FCGI_MPXS_CONNS", b"0"))),
                BEGIN_REQUEST => keep = content[2] & 1 == 1,
                PARAMS if content.is_empty() => {
                    echo.requests.fetch_add(1, Relaxed);
                    if echo.hangs_up.load(Relaxed) {
                        stream.write_all(&out).await?;
                        return Ok(());
                    }
                    let text = [b"Content-Type: text/plain\r\n\r\n", query.as_slice()].concat();
                    out.extend(record(STDOUT, id, &text));
                    out.extend(end_request(id, 0, 0));
                }
                PARAMS => query = asked_for(content).unwrap_or(query),
                _ => {}
            }
        }
        buffer.drain(..at);
        if !out.is_empty() {
            stream.write_all(&out).await?;
        }
        if stream.read_buf(&mut buffer).await? == 0 || !keep {
            return Ok(());
        }
    }
}

/// Kind, id, content and end of the record that begins at `at`, once it is whole.
fn next(buffer: &[u8], at: usize) -> Option<(u8, u16, &[u8], usize)> {
    let header = buffer.get(at..at + 8)?;
    let length = usize::from(u16::from_be_bytes([header[4], header[5]]));
    let end = at + 8 + length + usize::from(header[6]);
    let content = &buffer.get(at + 8..end)?[..length];
    Some((header[1], u16::from_be_bytes([header[2], header[3]]), content, end))
}

fn asked_for(params: &[u8]) -> Option<[u8; TOKEN]> {
    let name = b"QUERY_STRING";
    let at = params.windows(name.len()).position(|window| window == name)? + name.len();
    params.get(at..at + TOKEN)?.try_into().ok()
}

/// What came of a run of [`ask`].
#[derive(Debug, Default)]
pub(crate) struct Asked {
    pub(crate) right: u64,
    pub(crate) wrong: Vec<String>,
}

/// Asks at this pace, over so many clients with a connection for each request, as nginx does, for so long.
pub(crate) fn ask(socket: &Path, clients: u64, rate: f64, time: Duration) -> Asked {
    let runtime = Builder::new_current_thread().enable_all().build().expect("runtime");
    runtime.block_on(async {
        let (start, next) = (Instant::now(), Arc::new(AtomicU64::new(0)));
        let mut tasks = JoinSet::new();
        for _ in 0..clients {
            tasks.spawn(client(socket.to_owned(), start, Arc::clone(&next), rate, time));
        }
        let mut asked = Asked::default();
        while let Some(part) = tasks.join_next().await {
            let part = part.expect("a client");
            asked.right += part.right;
            asked.wrong.extend(part.wrong);
        }
        asked
    })
}

async fn client(socket: PathBuf, start: Instant, next: Arc<AtomicU64>, rate: f64, time: Duration) -> Asked {
    let mut asked = Asked::default();
    loop {
        let number = next.fetch_add(1, Relaxed);
        #[expect(clippy::cast_precision_loss, reason = "fewer than 2^52 requests")]
        let due = Duration::from_secs_f64(number as f64 / rate);
        if due >= time {
            return asked;
        }
        sleep_until((start + due).into()).await;
        match exchange(&socket, number).await {
            Ok(true) => asked.right += 1,
            Ok(false) => asked.wrong.push(format!("{number}: another answer")),
            Err(error) => asked.wrong.push(format!("{number}: {error}")),
        }
    }
}

async fn exchange(socket: &Path, number: u64) -> io::Result<bool> {
    let token = format!("{number:0TOKEN$}");
    let mut request = begin(1, false);
    let pairs = [("REQUEST_METHOD", "GET"), ("SCRIPT_FILENAME", "/srv/echo.php"), ("QUERY_STRING", &token)];
    request.extend(params(1, pairs));
    request.extend(stdin_end(1));
    let mut stream = UnixStream::connect(socket).await?;
    stream.write_all(&request).await?;
    let mut answer = Vec::with_capacity(512);
    while stream.read_buf(&mut answer).await? > 0 {}
    let ended = answer.len() >= 16 && answer[answer.len() - 16 + 1] == END_REQUEST;
    Ok(ended && answer.windows(TOKEN).any(|window| window == token.as_bytes()))
}
