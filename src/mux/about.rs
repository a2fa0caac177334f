//! What messages say of a request: method, script and host, read from its encoded params, and never more of these.

use crate::wire::Pairs;
use std::borrow::Cow;

/// Longer than any method that is registered; what is longer still is no method.
pub(super) const METHOD_AT_MOST: usize = 24;

/// Bytes of a host's name in messages.
const HOST_AT_MOST: usize = 255;

/// Bytes of a script's name in messages; far more than a file may have in practice.
pub(super) const SCRIPT_AT_MOST: usize = 1024;

/// The value of a param; the last of that name counts, as for PHP (fact 9.6).
pub(super) fn param<'a>(params: &'a [u8], wanted: &[u8]) -> Option<&'a [u8]> {
    let pairs = Pairs::new(params).filter_map(Result::ok);
    pairs.filter(|(name, _)| *name == wanted).last().map(|(_, value)| value)
}

/// The script, lossy, cut where it is very long, and empty where there is none.
pub(super) fn script(params: &[u8]) -> Cow<'_, str> {
    // An application other than php-fpm need not be told of a file.
    let script = param(params, b"SCRIPT_FILENAME").or_else(|| param(params, b"SCRIPT_NAME")).unwrap_or_default();
    // Apache may put the query string behind it, which is nobody's business.
    let script = script.split(|byte| *byte == b'?').next().unwrap_or_default();
    String::from_utf8_lossy(&script[..script.len().min(SCRIPT_AT_MOST)])
}

/// The method, if it looks like one.
pub(super) fn method(params: &[u8]) -> Option<&str> {
    let method = std::str::from_utf8(param(params, b"REQUEST_METHOD")?).ok()?;
    let sound = (1..=METHOD_AT_MOST).contains(&method.len()) && method.bytes().all(|byte| byte.is_ascii_alphabetic());
    sound.then_some(method)
}

/// The host that the client asked for: that of the web server's configuration, if there is one.
pub(super) fn host(params: &[u8]) -> Option<Cow<'_, str>> {
    let host = param(params, b"SERVER_NAME").filter(|name| !name.is_empty()).or_else(|| param(params, b"HTTP_HOST"))?;
    Some(String::from_utf8_lossy(&host[..host.len().min(HOST_AT_MOST)]))
}

/// Which request it is, for messages: "; POST /srv/www/index.php of www.example.org"; empty where nothing says so.
pub(super) fn about(params: &[u8]) -> String {
    let (method, script) = (method(params).unwrap_or("request for"), script(params));
    let host = host(params).map_or_else(String::new, |host| format!(" of {host}"));
    let about = if script.is_empty() { host } else { format!("; {method} {script}{host}") };
    about.chars().map(|char| if char.is_control() { '?' } else { char }).collect()
}
