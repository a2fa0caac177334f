//! Stands between a web server and fcgimux, passes on every byte both ways, and keeps what the records were.

use std::{
    collections::BTreeSet,
    io::{Read, Write},
    net::Shutdown,
    os::unix::{
        fs::PermissionsExt,
        net::{UnixListener, UnixStream},
    },
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    thread,
};

use crate::support::{Folder, fcgi};

/// A record of the web server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Sent {
    pub(crate) kind: u8,
    pub(crate) id: u16,
    pub(crate) content: Vec<u8>,
    pub(crate) padding: u8,
}

/// One connection of the web server.
#[derive(Clone, Debug, Default)]
pub(crate) struct Taped {
    pub(crate) sent: Vec<Sent>,
    /// Ids begun and not ended, as the wire had it.
    running: BTreeSet<u16>,
    /// The most of them at once.
    pub(crate) most: usize,
    /// Whether the web server is gone.
    pub(crate) closed: bool,
}

type Tape = Arc<Mutex<Vec<Taped>>>;

pub(crate) struct Recorder {
    path: PathBuf,
    tape: Tape,
    _folder: Folder,
}

impl Recorder {
    /// Before the socket `target`.
    pub(crate) fn before(target: &Path) -> Self {
        let folder = Folder::new();
        let path = folder.join("recorder.sock");
        let listener = UnixListener::bind(&path).expect("bind");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o666)).expect("chmod");
        let tape = Tape::default();
        let (ours, target) = (Arc::clone(&tape), target.to_owned());
        // Ends with the test's process: what it holds is a socket.
        thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(web_server) = stream else { return };
                let Ok(application) = UnixStream::connect(&target) else { continue };
                let index = {
                    let mut tape = ours.lock().expect("tape");
                    tape.push(Taped::default());
                    tape.len() - 1
                };
                pass_on(&web_server, &application, &ours, index, Taped::take_sent, true);
                pass_on(&application, &web_server, &ours, index, Taped::take_answer, false);
            }
        });
        Self { path, tape, _folder: folder }
    }

    pub(crate) fn socket(&self) -> &Path {
        &self.path
    }

    /// Every connection so far that carried a record.
    pub(crate) fn connections(&self) -> Vec<Taped> {
        let tape = self.tape.lock().expect("tape").clone();
        tape.into_iter().filter(|taped| !taped.sent.is_empty()).collect()
    }
}

impl Taped {
    fn take_sent(&mut self, record: Sent) {
        if record.kind == fcgi::BEGIN_REQUEST {
            self.running.insert(record.id);
            self.most = self.most.max(self.running.len());
        }
        self.sent.push(record);
    }

    fn take_answer(&mut self, record: Sent) {
        if record.kind == fcgi::END_REQUEST {
            self.running.remove(&record.id);
        }
    }

    pub(crate) fn of_kind(&self, kind: u8) -> Vec<&Sent> {
        self.sent.iter().filter(|record| record.kind == kind).collect()
    }

    /// Value of a param of the first request.
    pub(crate) fn param(&self, name: &str) -> Option<String> {
        let mut incoming = fcgi::Incoming::default();
        for Sent { kind, id, content, .. } in self.sent.clone() {
            incoming.take(fcgi::Record { kind, id, content });
        }
        incoming.param(name).map(str::to_owned)
    }

    /// Flags of every BEGIN_REQUEST.
    pub(crate) fn flags(&self) -> Vec<u8> {
        self.of_kind(fcgi::BEGIN_REQUEST).iter().map(|record| record.content[2]).collect()
    }

    /// Ids of BEGIN_REQUEST in their order.
    pub(crate) fn ids(&self) -> Vec<u16> {
        self.of_kind(fcgi::BEGIN_REQUEST).iter().map(|record| record.id).collect()
    }
}

/// What is read is noted before it is passed on, so that no answer overtakes its request on the tape.
fn pass_on(
    from: &UnixStream,
    to: &UnixStream,
    tape: &Tape,
    index: usize,
    take: fn(&mut Taped, Sent),
    of_web_server: bool,
) {
    let (mut from, mut to) = (from.try_clone().expect("a stream"), to.try_clone().expect("a stream"));
    let tape = Arc::clone(tape);
    thread::spawn(move || {
        let mut rest = Vec::new();
        let mut piece = vec![0; 65_536];
        while let Ok(read @ 1..) = from.read(&mut piece) {
            rest.extend_from_slice(&piece[..read]);
            {
                let mut tape = tape.lock().expect("tape");
                while let Some(record) = split(&mut rest) {
                    take(&mut tape[index], record);
                }
            }
            if to.write_all(&piece[..read]).is_err() {
                break;
            }
        }
        tape.lock().expect("tape")[index].closed |= of_web_server;
        // Both ways: neither a web server nor an application goes half.
        let _ = to.shutdown(Shutdown::Both);
        let _ = from.shutdown(Shutdown::Both);
    });
}

fn split(rest: &mut Vec<u8>) -> Option<Sent> {
    let header = rest.get(..8)?;
    let length = usize::from(u16::from_be_bytes([header[4], header[5]]));
    let (kind, id, padding) = (header[1], u16::from_be_bytes([header[2], header[3]]), header[6]);
    let content = rest.get(8..8 + length + usize::from(padding))?[..length].to_vec();
    rest.drain(..8 + length + usize::from(padding));
    Some(Sent { kind, id, content, padding })
}
