//! One exchange on a shared connection: what is still to be sent of its request, and what its web server has not been
//! given of its response.

use super::{Ending, Opening};
use crate::wire::{EndRequest, HEADER_LEN, Header, Kind, MAX_CONTENT, ProtocolStatus, put_record, put_stderr, set_id};

/// A message goes on in records of no more content: HAProxy 2.6 dies of one that is larger than its buffer of 16 KiB.
const MESSAGE: usize = 8 * 1024 - 2 * HEADER_LEN;

/// How far it has come. Only forward, and from every stage to `Left`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Stage {
    /// No byte of it has been sent: the application does not know of it.
    Queued,
    Sent,
    /// It has an ending, which its owner has not seen yet.
    Ended,
    /// Its owner has gone, and the application has been told; what it still sends is dropped up to END_REQUEST.
    Left,
}

/// `N` wakes its owner.
#[derive(Debug)]
pub(super) struct Exchange<N> {
    /// The web server's id.
    theirs: u16,
    pub(super) stage: Stage,
    /// Whole records under our id, of which the first `sent` bytes have been handed on.
    request: Vec<u8>,
    handed_on: usize,
    /// Bytes of BEGIN_REQUEST and PARAMS at the start of `request`, which go on in one piece; 0 once they have.
    head: usize,
    /// The GET_VALUES whose answer it waits for.
    pub(super) question: Option<u64>,
    /// Streams of the request that have not been ended.
    open: Vec<Kind>,
    /// It stands in the row of those that have something to send.
    pub(super) in_turn: bool,
    /// Whole records under the web server's id.
    response: Vec<u8>,
    /// Where in `response` the last record starts, while it may still grow.
    growing: Option<usize>,
    /// Something of a response has come.
    responded: bool,
    /// The application has ended its output; what is missing is END_REQUEST.
    output_over: bool,
    ending: Option<Ending>,
    notify: Option<N>,
}

impl<N> Exchange<N> {
    /// `head`: BEGIN_REQUEST and PARAMS under our id; `question`: the number of the one that was asked for it.
    pub(super) fn new(opening: Opening<'_>, head: Vec<u8>, question: Option<u64>) -> Self {
        let Opening { theirs, streams, question: _ } = opening;
        Self {
            theirs,
            stage: Stage::Queued,
            head: head.len(),
            request: head,
            handed_on: 0,
            question,
            open: streams.to_vec(),
            in_turn: false,
            response: vec![],
            growing: None,
            responded: false,
            output_over: false,
            ending: None,
            notify: None,
        }
    }

    // ---------------------------------------------------------------- the request

    /// Appends whole records; our id is put into them.
    pub(super) fn push(&mut self, ours: u16, records: &[u8]) {
        // One that is never behind with all of its request would keep what it has handed on.
        if self.handed_on * 2 >= self.request.len() {
            self.request.drain(..std::mem::take(&mut self.handed_on));
        }
        let start = self.request.len();
        self.request.extend_from_slice(records);
        let mut at = start;
        while let Some(header) = self.request[at..].first_chunk::<HEADER_LEN>() {
            let header = Header::decode(header);
            set_id(&mut self.request[at..], ours);
            if header.content == 0 {
                self.open.retain(|kind| *kind != header.kind);
            }
            at += HEADER_LEN + usize::from(header.content) + usize::from(header.padding);
        }
    }

    /// Bytes that have not been handed on.
    pub(super) fn unsent(&self) -> usize {
        self.request.len() - self.handed_on
    }

    /// Bytes that it keeps, in both directions.
    #[cfg(test)]
    pub(super) fn kept(&self) -> usize {
        self.request.len() + self.response.len()
    }

    /// Its head has been handed on, and may have been sent.
    pub(super) fn has_begun(&self) -> bool {
        self.head == 0
    }

    /// Moves the next record, or the whole head, to `out`.
    pub(super) fn hand_on(&mut self, out: &mut Vec<u8>) {
        let rest = &self.request[self.handed_on..];
        let record = rest.first_chunk().map_or(0, |header| {
            let header = Header::decode(header);
            HEADER_LEN + usize::from(header.content) + usize::from(header.padding)
        });
        let len = std::mem::take(&mut self.head).max(record).min(rest.len());
        out.extend_from_slice(&rest[..len]);
        self.handed_on += len;
        if self.handed_on == self.request.len() {
            self.request.clear();
            self.handed_on = 0;
        }
    }

    /// Its owner goes. What has not been handed on is not sent any more, but the ends of its streams are: there are
    /// applications that keep an id until then, and some that do not end an aborted request before (docs/applications.md).
    pub(super) fn end_streams(&mut self, ours: u16, out: &mut Vec<u8>) {
        self.open.drain(..).for_each(|kind| put_record(out, kind, ours, &[]));
        (self.request, self.handed_on, self.head) = (vec![], 0, 0);
    }

    /// Nobody wants anything of it any more, but the application has not ended it.
    pub(super) fn abandon(&mut self) {
        (self.request, self.handed_on, self.head) = (vec![], 0, 0);
        self.drop_response();
        self.stage = Stage::Left;
    }

    // ---------------------------------------------------------------- the response

    /// Bytes of content that may be appended within `limit` bytes in all, a header and padding included.
    pub(super) fn room(&self, kind: Kind, limit: usize) -> usize {
        let room = limit.saturating_sub(self.response.len() + 2 * HEADER_LEN);
        if kind == Kind::Stderr { room.min(MESSAGE) } else { room }
    }

    /// Appends content of STDOUT or STDERR; neighbours of STDOUT become one record.
    pub(super) fn append(&mut self, kind: Kind, mut content: &[u8]) {
        self.responded = true;
        if kind == Kind::Stderr {
            self.growing = None;
            return content.chunks(MESSAGE).for_each(|part| put_stderr(&mut self.response, self.theirs, part));
        }
        while !content.is_empty() {
            let start = self.grow();
            let have = self.response.len() - start - HEADER_LEN;
            let (now, later) = content.split_at(content.len().min(MAX_CONTENT - have));
            self.response.extend_from_slice(now);
            // At most MAX_CONTENT, which fits.
            let header = Header::new(kind, self.theirs, (have + now.len()) as u16);
            self.response[start..start + HEADER_LEN].copy_from_slice(&header.encode());
            if have + now.len() == MAX_CONTENT {
                self.growing = None;
            }
            content = later;
        }
    }

    /// Where the record starts that takes more bytes; begun if there is none.
    fn grow(&mut self) -> usize {
        *self.growing.get_or_insert_with(|| {
            let start = self.response.len();
            self.response.extend_from_slice(&[0; HEADER_LEN]);
            start
        })
    }

    /// Appends a whole record, which may have no content.
    pub(super) fn append_record(&mut self, kind: Kind, content: &[u8]) {
        self.growing = None;
        self.output_over |= self.responded && kind == Kind::Stdout && content.is_empty();
        put_record(&mut self.response, kind, self.theirs, content);
    }

    /// The connection ended behind the whole output, of which web servers need no END_REQUEST: ends the exchange with one.
    /// Returns whether it did.
    pub(super) fn end_behind_output(&mut self) -> bool {
        if self.output_over {
            let end = EndRequest { app_status: 0, protocol_status: ProtocolStatus::RequestComplete };
            self.append_record(Kind::EndRequest, &end.encode());
            self.end(Ending::Ended(end.protocol_status));
        }
        self.output_over
    }

    /// Gives what there is, in exchange for a buffer to fill.
    pub(super) fn swap(&mut self, into: &mut Vec<u8>) {
        self.growing = None;
        std::mem::swap(&mut self.response, into);
    }

    pub(super) fn drop_response(&mut self) {
        (self.response, self.growing) = (vec![], None);
    }

    pub(super) fn has_responded(&self) -> bool {
        self.responded
    }

    // ---------------------------------------------------------------- its end

    pub(super) fn end(&mut self, ending: Ending) {
        self.stage = Stage::Ended;
        self.ending.get_or_insert(ending);
    }

    pub(super) fn ending(&self) -> Option<Ending> {
        self.ending.clone()
    }

    /// The application knows that it is over.
    pub(super) fn is_settled(&self) -> bool {
        matches!(self.ending, Some(Ending::Ended(_) | Ending::Rejected(_)))
    }

    pub(super) fn listen(&mut self, notify: N) {
        self.notify = Some(notify);
    }

    pub(super) fn listener(&mut self) -> Option<N> {
        self.notify.take()
    }
}
