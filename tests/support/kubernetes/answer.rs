//! One connection: requests one after the other, the last of them usually a watch.

use super::{Asked, Shared, State, Verb, store::Selection};
use serde_json::{Value, json};
use std::{
    io::{self, BufRead, BufReader, Write},
    net::TcpStream,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

/// How it is asked for slices.
const PATH: &str = "/apis/discovery.k8s.io/v1/namespaces/";

/// A request as far as it matters.
struct Request {
    asked: Asked,
    selection: Selection,
    /// Of a watch.
    lasts: Duration,
    bookmarks: bool,
}

pub(super) fn serve(mut connection: TcpStream, shared: &Arc<Shared>) -> io::Result<()> {
    let mut lines = BufReader::new(connection.try_clone()?);
    loop {
        let Some((target, token)) = read_head(&mut lines)? else { return Ok(()) };
        let Some(request) = parse(&target, token) else {
            refuse(&mut connection, 404, &format!("not known here: {target}"))?;
            continue;
        };
        let manners = {
            let mut state = shared.lock();
            state.requests.push(request.asked.clone());
            state.manners.clone()
        };
        // Who is told that it has been asked may wait for that.
        shared.changed.notify_all();
        if manners.silent {
            // What came before it speaks again is never answered.
            return wait_for_the_end(&mut lines);
        }
        let refused = manners.refused.iter().find(|(verb, _)| *verb == request.asked.verb);
        if manners.token.is_some() && manners.token != request.asked.token {
            refuse(&mut connection, 401, "Unauthorized")?;
        } else if let Some((_, status)) = refused {
            refuse(&mut connection, *status, "as the test wants it")?;
        } else if request.asked.verb == Verb::List {
            thread::sleep(manners.slow_lists);
            let list = shared.lock().store.list(&request.selection);
            answer(&mut connection, 200, &list)?;
        } else if !watch(&mut connection, shared, &request)? {
            return Ok(());
        }
    }
}

/// Target and token of a request; none at the end of the connection.
fn read_head(lines: &mut impl BufRead) -> io::Result<Option<(String, Option<String>)>> {
    let (mut target, mut token) = (None, None);
    loop {
        let mut line = String::new();
        if lines.read_line(&mut line)? == 0 {
            return Ok(None);
        }
        let line = line.trim_end();
        if line.is_empty() {
            return Ok(target.map(|target| (target, token)));
        }
        if target.is_none() {
            target = line.split(' ').nth(1).map(str::to_owned);
        } else if let Some((name, value)) = line.split_once(": ")
            && name.eq_ignore_ascii_case("authorization")
        {
            token = value.strip_prefix("Bearer ").map(str::to_owned);
        }
    }
}

fn parse(target: &str, token: Option<String>) -> Option<Request> {
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let namespace = path.strip_prefix(PATH)?.strip_suffix("/endpointslices")?;
    let value = |name: &str| {
        let pair = query.split('&').filter_map(|pair| pair.split_once('=')).find(|(key, _)| *key == name);
        pair.map(|(_, value)| decode(value))
    };
    let label = value("labelSelector").and_then(|selector| {
        let (label, value) = selector.split_once('=')?;
        Some((label.to_owned(), value.to_owned()))
    });
    let verb = if value("watch").as_deref() == Some("true") { Verb::Watch } else { Verb::List };
    let version = value("resourceVersion").unwrap_or_default();
    let seconds = value("timeoutSeconds").and_then(|seconds| seconds.parse().ok()).unwrap_or(1800);
    Some(Request {
        asked: Asked { verb, namespace: namespace.to_owned(), version, token },
        selection: Selection { namespace: namespace.to_owned(), label },
        lasts: Duration::from_secs(seconds),
        bookmarks: value("allowWatchBookmarks").as_deref() == Some("true"),
    })
}

/// Of the characters that such queries have.
fn decode(value: &str) -> String {
    value.replace("%2F", "/").replace("%3D", "=").replace("%2C", ",")
}

fn answer(connection: &mut TcpStream, status: u16, body: &Value) -> io::Result<()> {
    let body = body.to_string();
    let length = body.len();
    let head = format!("HTTP/1.1 {status} Test\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n");
    connection.write_all((head + &body).as_bytes())
}

fn refuse(connection: &mut TcpStream, status: u16, message: &str) -> io::Result<()> {
    answer(connection, status, &status_of(status, message))
}

fn status_of(code: u16, message: &str) -> Value {
    let reason = match code {
        401 => "Unauthorized",
        403 => "Forbidden",
        410 => "Expired",
        504 => "Timeout",
        _ => "InternalError",
    };
    json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "message": message, "reason": reason, "code": code,
    })
}

fn wait_for_the_end(lines: &mut impl BufRead) -> io::Result<()> {
    while !lines.fill_buf()?.is_empty() {
        let read = lines.fill_buf()?.len();
        lines.consume(read);
    }
    Ok(())
}

/// What a watch does next.
enum Next {
    Say(Vec<Value>),
    /// Forgotten history: this, and the end.
    Gone(Value),
    /// Half of a line, and the connection is broken.
    Cut(Value),
    End,
}

/// Whether the connection can be used for another request.
fn watch(connection: &mut TcpStream, shared: &Arc<Shared>, request: &Request) -> io::Result<bool> {
    let Ok(mut version) = request.asked.version.parse::<u64>() else {
        refuse(connection, 400, "a watch needs a version here")?;
        return Ok(true);
    };
    let number = {
        let state = shared.lock();
        if version > state.store.version() {
            let current = state.store.version();
            drop(state);
            refuse(connection, 504, &format!("Too large resource version: {version}, current: {current}"))?;
            return Ok(true);
        }
        if state.manners.gone_as_status && !state.store.knows(version) {
            drop(state);
            refuse(connection, 410, "too old resource version")?;
            return Ok(true);
        }
        state.requests.len()
    };
    connection.write_all(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n")?;
    shared.lock().watches += 1;
    let began = Instant::now();
    let mut marked = began;
    loop {
        match next(shared, request, number, &mut version, began, &mut marked) {
            Next::Say(events) => events.iter().try_for_each(|event| chunk(connection, &line(event)))?,
            Next::Gone(event) => {
                chunk(connection, &line(&event))?;
                connection.write_all(b"0\r\n\r\n")?;
                return Ok(true);
            }
            Next::Cut(event) => {
                let line = line(&event);
                chunk(connection, &line[..line.len() / 2])?;
                connection.shutdown(std::net::Shutdown::Both)?;
                return Ok(false);
            }
            Next::End => {
                connection.write_all(b"0\r\n\r\n")?;
                return Ok(true);
            }
        }
    }
}

/// Waits until there is something to do.
fn next(
    shared: &Arc<Shared>,
    request: &Request,
    number: usize,
    version: &mut u64,
    began: Instant,
    marked: &mut Instant,
) -> Next {
    let mut state = shared.lock();
    loop {
        if !state.manners.silent {
            if !state.store.knows(*version) {
                return Next::Gone(json!({"type": "ERROR", "object": status_of(410, "too old resource version")}));
            }
            let events = state.store.since(*version, &request.selection);
            if let Some((last, event)) = events.last() {
                if std::mem::take(&mut state.manners.cut_next_line) {
                    return Next::Cut(event.clone());
                }
                *version = *last;
                return Next::Say(events.into_iter().map(|(_, event)| event).collect());
            }
            if state.manners.short_watches || state.ended >= number || began.elapsed() >= request.lasts {
                return Next::End;
            }
            if request.bookmarks && marked.elapsed() >= state.manners.bookmarks {
                *marked = Instant::now();
                return Next::Say(vec![bookmark(&state, version)]);
            }
        }
        let pause = state.manners.bookmarks.min(Duration::from_millis(100));
        state = shared.changed.wait_timeout(state, pause).unwrap_or_else(std::sync::PoisonError::into_inner).0;
    }
}

fn bookmark(state: &State, version: &mut u64) -> Value {
    *version = state.store.version();
    json!({"type": "BOOKMARK", "object": {
        "kind": "EndpointSlice", "apiVersion": "discovery.k8s.io/v1",
        "metadata": {"resourceVersion": version.to_string(), "creationTimestamp": null},
        "addressType": "", "endpoints": null, "ports": null,
    }})
}

fn line(event: &Value) -> Vec<u8> {
    let mut line = event.to_string().into_bytes();
    line.push(b'\n');
    line
}

fn chunk(connection: &mut TcpStream, bytes: &[u8]) -> io::Result<()> {
    let mut chunk = format!("{:x}\r\n", bytes.len()).into_bytes();
    chunk.extend_from_slice(bytes);
    chunk.extend_from_slice(b"\r\n");
    connection.write_all(&chunk)
}
