//! What a request may carry: limits, denied names, and the pairs that are set or taken out.

use super::{
    about::about,
    label::{Refusal, Sticky},
    refuse::Refused,
};
use crate::{
    config,
    wire::{MAX_CONTENT, Pairs, pair_len, put_pair},
};

/// A pool's rules for params and bodies, made once from its configuration.
#[derive(Debug)]
pub struct Policy {
    pub application: config::Application,
    params: config::Params,
    reuse: config::ReuseAfterBody,
    pub max_body: Option<u64>,
    /// One bit per length of a name in `deny`, `set` or `remove`: most pairs are passed by with one test.
    lengths: u64,
}

/// What one pass over the pairs found.
#[derive(Clone, Debug, Default)]
pub(super) struct Findings {
    /// CONTENT_LENGTH; `None` when it is absent or empty.
    pub(super) content_length: Option<u64>,
    pub(super) method: Method,
    /// The method is one whose requests have no body unless they say so.
    reads: bool,
    pub(super) multipart: bool,
    /// CONTENT_LENGTH is there and says that it is not known.
    pub(super) unknown_length: bool,
    /// The client sent a body in chunks.
    chunked: bool,
    /// Pairs called CONTENT_LENGTH.
    lengths: usize,
    /// What becomes of PHP_VALUE and PHP_ADMIN_VALUE, if they are there.
    pub(super) sticky: Option<Sticky>,
    /// Some pair must go, or one must be added.
    rewrite: bool,
}

/// A request method, as far as it matters here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Method {
    Post,
    /// GET, HEAD, OPTIONS, TRACE, PUT, DELETE (RFC 9110, 9.2.2).
    Idempotent,
    /// Any other, or none at all.
    #[default]
    Other,
}

impl Method {
    fn from_bytes(value: &[u8]) -> Self {
        match value {
            b"POST" => Self::Post,
            b"GET" | b"HEAD" | b"OPTIONS" | b"TRACE" | b"PUT" | b"DELETE" => Self::Idempotent,
            _ => Self::Other,
        }
    }
}

const CONTENT_LENGTH: &[u8] = b"CONTENT_LENGTH";

/// PHP takes it for settings, which stay in the worker (fact 18.2).
fn is_sticky(name: &[u8]) -> bool {
    matches!(name, b"PHP_VALUE" | b"PHP_ADMIN_VALUE")
}

fn length_bit(name: &[u8]) -> u64 {
    1 << name.len().min(63)
}

fn refused(refusal: Refusal, detail: String) -> Refused {
    Refused { refusal, detail }
}

impl Policy {
    pub fn new(pool: &config::Pool) -> Self {
        let params = pool.params.clone();
        let names = params.deny.iter().chain(&params.remove).chain(params.set.iter().map(|(name, _)| name));
        let lengths = names.fold(0, |bits, name| bits | length_bit(name.as_bytes()));
        let (application, reuse) = (pool.application, pool.reuse_after_body.clone());
        Self { application, params, reuse, max_body: pool.body.max_size, lengths }
    }

    /// Bytes of params that one request may carry.
    pub fn max_params(&self) -> u64 {
        self.params.max_size
    }

    fn denies(&self, name: &[u8]) -> bool {
        self.params.deny.iter().any(|denied| denied.as_bytes() == name)
    }

    /// True for a pair of the web server's that does not go on as it is.
    fn drops(&self, name: &[u8]) -> bool {
        self.denies(name)
            || self.params.remove.iter().any(|removed| removed.as_bytes() == name)
            || self.params.set.iter().any(|(set, _)| set.as_bytes() == name)
    }

    /// Looks at every pair once.
    ///
    /// # Errors
    /// The request must be refused: malformed pairs, too many, one too large, a denied one, or a CONTENT_LENGTH that is
    /// no number.
    pub(super) fn inspect(&self, params: &[u8]) -> Result<Findings, Refused> {
        let mut found = Findings { rewrite: !self.params.set.is_empty(), ..Findings::default() };
        let (mut pairs, mut count, mut start) = (Pairs::new(params), 0, 0);
        while let Some(pair) = pairs.next() {
            let (name, value) = pair.map_err(|error| refused(Refusal::Malformed, format!("PARAMS: {error}")))?;
            count += 1;
            if count > self.params.max_count {
                let detail = format!("more than {} params (params.max_count)", self.params.max_count);
                return Err(refused(Refusal::TooManyParams, detail));
            }
            if pairs.position() - start > MAX_CONTENT && self.application == config::Application::PhpFpm {
                let detail = format!("param {} is larger than one record ({MAX_CONTENT} bytes)", show(name));
                return Err(refused(Refusal::ParamsTooLarge, detail));
            }
            start = pairs.position();
            if self.lengths & length_bit(name) != 0 && self.drops(name) {
                // An empty one of those that PHP reads changes nothing.
                if self.denies(name) && !(is_sticky(name) && value.is_empty()) {
                    if self.params.on_denied == config::OnDenied::Refuse {
                        let detail = format!("param {} is denied (params.deny){}", show(name), about(params));
                        return Err(refused(Refusal::ParamDenied, detail));
                    }
                    found.sticky = if is_sticky(name) { Some(Sticky::Stripped) } else { found.sticky };
                }
                found.rewrite = true;
                continue;
            }
            found.note(name, value)?;
        }
        for (name, value) in &self.params.set {
            found.note(name.as_bytes(), value.as_bytes())?;
        }
        found.rewrite |= found.lengths > 1;
        Ok(found)
    }

    /// The params as they go on: without what is dropped, with what is set, with one CONTENT_LENGTH at most, and with another
    /// one when `length` gives what the web server did not. `None`: unchanged.
    pub(super) fn rewrite(&self, params: &[u8], found: &Findings, length: Option<u64>) -> Option<Vec<u8>> {
        if !found.rewrite && length.is_none() {
            return None;
        }
        let mut out = Vec::with_capacity(params.len() + 64);
        let mut lengths = found.lengths;
        // An error cannot come: inspect() has read the same bytes.
        for (name, value) in Pairs::new(params).filter_map(Result::ok) {
            let is_length = name == CONTENT_LENGTH;
            // The last one counts.
            let replaced = is_length && (length.is_some() || lengths > 1);
            lengths = lengths.saturating_sub(usize::from(is_length));
            if !replaced && !self.drops(name) {
                put_pair(&mut out, name, value);
            }
        }
        for (name, value) in &self.params.set {
            put_pair(&mut out, name.as_bytes(), value.as_bytes());
        }
        if let Some(length) = length {
            put_pair(&mut out, CONTENT_LENGTH, length.to_string().as_bytes());
        }
        Some(out)
    }

    /// May the connection be used again after this request? Only if PHP itself has read the whole body: what a script
    /// leaves unread would be taken for records (fact 10.5).
    pub(super) fn reusable_after(&self, found: &Findings, body: u64) -> bool {
        let whole = |limit| found.method == Method::Post && body <= limit && (!found.multipart || self.reuse.multipart);
        body == 0 || self.reuse.post_up_to.is_some_and(whole)
    }
}

impl Findings {
    /// No body follows: CONTENT_LENGTH says so, or nothing says that there is one and the method wants none. (With HTTP/2 a
    /// POST needs neither a length nor chunks.)
    pub(super) fn is_bodiless(&self) -> bool {
        let silent = self.content_length.is_none() && !self.unknown_length && !self.chunked;
        self.content_length == Some(0) || (silent && self.reads)
    }

    /// Takes note of one pair. Of several pairs of one name PHP takes the last (fact 9.6), and so do we.
    fn note(&mut self, name: &[u8], value: &[u8]) -> Result<(), Refused> {
        match name {
            b"REQUEST_METHOD" => {
                (self.method, self.reads) = (Method::from_bytes(value), matches!(value, b"GET" | b"HEAD"));
            }
            b"HTTP_TRANSFER_ENCODING" => self.chunked = !value.is_empty(),
            _ if is_sticky(name) && !value.is_empty() => self.sticky = Some(Sticky::Passed),
            b"CONTENT_TYPE" => {
                let word = b"multipart";
                self.multipart = value.windows(word.len()).any(|part| part.eq_ignore_ascii_case(word));
            }
            CONTENT_LENGTH => {
                self.lengths += 1;
                // What Caddy says of a chunked upload. php-fpm would wait for more than there is (fact 10.2).
                self.unknown_length = value == b"-1";
                self.content_length = match value {
                    // Behind another one it says that there is no body, whatever that one says; PHP takes it so.
                    b"" if self.lengths > 1 => Some(0),
                    b"" | b"-1" => None,
                    _ => Some(content_length(value)?),
                };
            }
            _ => {}
        }
        Ok(())
    }
}

fn content_length(value: &[u8]) -> Result<u64, Refused> {
    let digits = value.iter().all(u8::is_ascii_digit) && value.len() < 20;
    let number = std::str::from_utf8(value).ok().filter(|_| digits).and_then(|text| text.parse().ok());
    number.ok_or_else(|| refused(Refusal::LengthMismatch, "CONTENT_LENGTH is no length".into()))
}

/// Bytes from the network, for a message: short, and nothing that a log could trip over.
fn show(bytes: &[u8]) -> String {
    let text: String = String::from_utf8_lossy(&bytes[..bytes.len().min(64)]).escape_debug().collect();
    if bytes.len() > 64 { format!("{text:?}...") } else { format!("\"{text}\"") }
}

/// Appends PARAMS records; no pair spans two of them (fact 9.4), but for one that is larger than a record, which no php-fpm
/// is given. `params` has been inspected.
pub fn put_params(out: &mut Vec<u8>, id: u16, params: &[u8]) {
    use crate::wire::{Kind, put_record};
    let mut put = |run: &[u8]| run.chunks(MAX_CONTENT).for_each(|part| put_record(out, Kind::Params, id, part));
    if params.len() <= MAX_CONTENT {
        put(params);
    } else {
        let (mut pairs, mut from, mut to) = (Pairs::new(params), 0, 0);
        while let Some(Ok((name, value))) = pairs.next() {
            if to + pair_len(name.len(), value.len()) - from > MAX_CONTENT && to > from {
                put(&params[from..to]);
                from = to;
            }
            to = pairs.position();
        }
        put(&params[from..to]);
    }
    put_record(out, Kind::Params, id, &[]);
}

#[cfg(test)]
mod tests;
