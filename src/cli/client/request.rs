//! What is sent: a request as a web server in front of php-fpm would make it.

use std::{io::Read, path::Path};

use clap::Args;
use fcgimux::{
    mux::policy::put_params,
    wire::{BeginRequest, Kind, MAX_CONTENT, Role, pair_len, put_pair, put_record},
};

/// The flags that make a request.
#[derive(Args, Clone, Debug)]
pub(crate) struct RequestFlags {
    /// What to run: a script's full path as the application sees it, or a page of php-fpm (/status, /ping); ?QUERY may
    /// follow
    #[arg(value_name = "SCRIPT")]
    script: String,

    /// Document root: SCRIPT is then a path below it, as in a URL
    #[arg(long, value_name = "DIR")]
    root: Option<String>,

    /// Method [default: GET, or POST with --data]
    #[arg(short = 'X', long, value_name = "METHOD")]
    method: Option<String>,

    /// Query string, without `?`
    #[arg(long, value_name = "QUERY")]
    query: Option<String>,

    /// Body: text, @FILE, or @- for standard input; read whole before anything is sent
    #[arg(short, long, value_name = "DATA")]
    data: Option<String>,

    /// Set a param, also one that is set anyway; may be repeated
    #[arg(short = 'P', long = "param", value_name = "NAME=VALUE")]
    params: Vec<String>,

    /// Set the header of a request as a web server would pass it on; may be repeated
    #[arg(short = 'H', long = "header", value_name = "NAME: VALUE")]
    headers: Vec<String>,
}

/// Why there is no request to send.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum RequestError {
    #[error("{0}")]
    Usage(String),
    #[error("cannot read {0}")]
    Unreadable(String),
}

/// One that can be sent as often as one likes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Request {
    /// In the order in which they are sent; names differ.
    params: Vec<(String, String)>,
    body: Vec<u8>,
}

impl RequestFlags {
    /// # Errors
    /// A flag makes no sense, or the body cannot be read.
    pub(crate) fn request(&self) -> Result<Request, RequestError> {
        let (script, query) = self.script.split_once('?').unwrap_or((&self.script, ""));
        if !script.starts_with('/') {
            let what =
                format!("SCRIPT `{script}` does not begin with /; write the full path that the application sees");
            return Err(RequestError::Usage(what));
        }
        let queries = [query, self.query.as_deref().unwrap_or("")];
        let queries: Vec<_> = queries.into_iter().filter(|query| !query.is_empty()).collect();
        let body = self.data.as_deref().map(read_body).transpose()?;
        let method = self.method.as_deref().unwrap_or_else(|| if body.is_some() { "POST" } else { "GET" });
        let root = self.root.as_deref().map(|root| root.trim_end_matches('/'));
        let mut request = Request { params: vec![], body: body.clone().unwrap_or_default() };
        request.describe(script, root, method);
        request.set_query(&queries.join("&"));
        if body.is_some() {
            request.set("CONTENT_TYPE", "application/x-www-form-urlencoded");
        }
        for header in &self.headers {
            let (name, value) = header.split_once(':').ok_or_else(|| usage("-H", header, "Name: value"))?;
            request.set(&param_of(name.trim()), value.trim());
        }
        if body.is_some() || method != "GET" {
            // Behind the headers: with another length php-fpm would wait for what never comes (fact 10.2). Whoever wants
            // that says so by -P.
            request.set("CONTENT_LENGTH", &request.body.len().to_string());
        }
        for param in &self.params {
            let named = param.split_once('=').filter(|(name, _)| !name.is_empty());
            let (name, value) = named.ok_or_else(|| usage("-P", param, "NAME=VALUE"))?;
            request.set(name, value);
        }
        match request.params.iter().find(|(name, value)| pair_len(name.len(), value.len()) > MAX_CONTENT) {
            Some((name, _)) => {
                Err(RequestError::Usage(format!("param {name} is longer than the {MAX_CONTENT} bytes of a record")))
            }
            None => Ok(request),
        }
    }
}

impl Request {
    /// A GET of this path.
    pub(crate) fn get(script: &str, query: &str) -> Self {
        let mut request = Self { params: vec![], body: vec![] };
        request.describe(script, None, "GET");
        request.set_query(query);
        request
    }

    /// What every web server says of a request.
    fn describe(&mut self, script: &str, root: Option<&str>, method: &str) {
        let software = concat!("fcgimux/", env!("CARGO_PKG_VERSION"));
        for (name, value) in [
            ("SCRIPT_FILENAME", format!("{}{script}", root.unwrap_or_default()).as_str()),
            ("SCRIPT_NAME", script),
            ("DOCUMENT_URI", script),
            ("REQUEST_METHOD", method),
            ("GATEWAY_INTERFACE", "CGI/1.1"),
            ("SERVER_PROTOCOL", "HTTP/1.1"),
            ("SERVER_SOFTWARE", software),
            ("SERVER_NAME", "localhost"),
            ("SERVER_ADDR", "127.0.0.1"),
            ("SERVER_PORT", "80"),
            ("REMOTE_ADDR", "127.0.0.1"),
            ("REMOTE_PORT", "0"),
            ("REQUEST_SCHEME", "http"),
            // PHP refuses to run without it where cgi.force_redirect is on.
            ("REDIRECT_STATUS", "200"),
            ("HTTP_HOST", "localhost"),
            ("HTTP_USER_AGENT", software),
        ] {
            self.set(name, value);
        }
        if let Some(root) = root {
            self.set("DOCUMENT_ROOT", root);
        }
    }

    /// Also in what REQUEST_URI says.
    fn set_query(&mut self, query: &str) {
        self.set("QUERY_STRING", query);
        let script = self.param("SCRIPT_NAME").unwrap_or_default();
        let uri = if query.is_empty() { script.to_owned() } else { format!("{script}?{query}") };
        self.set("REQUEST_URI", &uri);
    }

    /// The same with one thing more in its query.
    pub(crate) fn with_query(&self, more: &str) -> Self {
        let mut request = self.clone();
        let query = match self.param("QUERY_STRING").unwrap_or_default() {
            "" => more.to_owned(),
            query => format!("{query}&{more}"),
        };
        request.set_query(&query);
        request
    }

    fn set(&mut self, name: &str, value: &str) {
        match self.params.iter_mut().find(|(set, _)| set == name) {
            Some((_, old)) => value.clone_into(old),
            None => self.params.push((name.to_owned(), value.to_owned())),
        }
    }

    pub(crate) fn param(&self, name: &str) -> Option<&str> {
        self.params.iter().find(|(set, _)| set == name).map(|(_, value)| value.as_str())
    }

    pub(crate) fn params(&self) -> impl Iterator<Item = (&str, &str)> {
        self.params.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// Everything that goes over the wire, in records.
    pub(crate) fn encode(&self, id: u16, keep_conn: bool) -> Vec<u8> {
        let mut params = vec![];
        self.params().for_each(|(name, value)| put_pair(&mut params, name.as_bytes(), value.as_bytes()));
        let mut out = Vec::with_capacity(params.len() + self.body.len() + 128);
        put_record(&mut out, Kind::BeginRequest, id, &BeginRequest { role: Role::Responder, keep_conn }.encode());
        put_params(&mut out, id, &params);
        self.body.chunks(MAX_CONTENT).for_each(|chunk| put_record(&mut out, Kind::Stdin, id, chunk));
        put_record(&mut out, Kind::Stdin, id, &[]);
        out
    }
}

fn usage(flag: &str, given: &str, form: &str) -> RequestError {
    RequestError::Usage(format!("{flag} `{given}` has no value; write it as {form}"))
}

/// `Accept-Language` is `HTTP_ACCEPT_LANGUAGE`; two have names of their own (RFC 3875, 4.1).
fn param_of(header: &str) -> String {
    let name = header.to_ascii_uppercase().replace('-', "_");
    if matches!(name.as_str(), "CONTENT_TYPE" | "CONTENT_LENGTH") { name } else { format!("HTTP_{name}") }
}

fn read_body(data: &str) -> Result<Vec<u8>, RequestError> {
    let Some(file) = data.strip_prefix('@') else { return Ok(data.as_bytes().to_vec()) };
    let mut body = vec![];
    let read = match file {
        "-" => std::io::stdin().lock().read_to_end(&mut body).map(|_| body),
        file => std::fs::read(Path::new(file)),
    };
    let name = if file == "-" { "standard input" } else { file };
    read.map_err(|error| RequestError::Unreadable(format!("{name}: {}", super::failure::words(&error))))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        flags: RequestFlags,
    }

    fn request(arguments: &[&str]) -> Result<Request, RequestError> {
        Line::parse_from([&["x"], arguments].concat()).flags.request()
    }

    #[track_caller]
    fn params(arguments: &[&str], names: &[&str]) -> Vec<String> {
        let request = request(arguments).unwrap();
        names.iter().map(|name| request.param(name).unwrap_or("-").to_owned()).collect()
    }

    #[test]
    fn a_script_alone_is_a_get_as_a_web_server_makes_it() {
        let names =
            ["SCRIPT_FILENAME", "SCRIPT_NAME", "REQUEST_METHOD", "REQUEST_URI", "QUERY_STRING", "CONTENT_LENGTH"];
        assert_eq!(params(&["/srv/a.php"], &names), ["/srv/a.php", "/srv/a.php", "GET", "/srv/a.php", "", "-"]);
        let given = ["/a.php?b=1", "--root", "/srv/www/", "--query", "c=2"];
        assert_eq!(params(&given, &names), ["/srv/www/a.php", "/a.php", "GET", "/a.php?b=1&c=2", "b=1&c=2", "-"]);
        assert_eq!(params(&given, &["DOCUMENT_ROOT"]), ["/srv/www"]);
    }

    #[test]
    fn a_body_makes_a_post_with_length_and_type() {
        let names = ["REQUEST_METHOD", "CONTENT_LENGTH", "CONTENT_TYPE"];
        assert_eq!(params(&["/a", "-d", "x=1"], &names), ["POST", "3", "application/x-www-form-urlencoded"]);
        assert_eq!(params(&["/a", "-d", "", "-X", "PUT"], &names), ["PUT", "0", "application/x-www-form-urlencoded"]);
        assert_eq!(params(&["/a", "-X", "DELETE"], &names), ["DELETE", "0", "-"]);
        let typed = ["/a", "-d", "{}", "-H", "content-type: application/json", "-H", "Content-Length: 9"];
        assert_eq!(params(&typed, &names), ["POST", "2", "application/json"]);
    }

    #[test]
    fn params_come_last_and_win() {
        let given =
            ["/a", "-H", "Host: shop", "-H", "Accept-Language: da", "-P", "HTTP_HOST=b", "-P", "X=y=z", "-P", "E="];
        assert_eq!(params(&given, &["HTTP_HOST", "HTTP_ACCEPT_LANGUAGE", "X", "E"]), ["b", "da", "y=z", ""]);
    }

    #[test]
    fn what_makes_no_request_is_said() {
        for (arguments, part) in [
            (&["a.php"][..], "does not begin with /"),
            (&["/a", "-P", "X"], "-P `X` has no value; write it as NAME=VALUE"),
            (&["/a", "-P", "=x"], "NAME=VALUE"),
            (&["/a", "-H", "Host"], "Name: value"),
            (&["/a", "-d", "@/none/there"], "cannot read /none/there: no such file"),
            (&["/a", "-P", &format!("X={}", "x".repeat(70_000))], "param X is longer than"),
        ] {
            let said = request(arguments).unwrap_err().to_string();
            assert!(said.contains(part), "{said}");
        }
    }

    #[test]
    fn more_in_the_query_stands_in_the_uri_as_well() {
        let request = Request::get("/a", "").with_query("x=1").with_query("y=2");
        assert_eq!(
            (request.param("QUERY_STRING"), request.param("REQUEST_URI")),
            (Some("x=1&y=2"), Some("/a?x=1&y=2"))
        );
    }

    #[test]
    fn a_body_goes_in_records_with_an_end() {
        let mut request = Request::get("/a", "");
        request.body = vec![b'x'; 2 * MAX_CONTENT + 1];
        let (bytes, mut scanner, mut at, mut stdin) =
            (request.encode(7, true), fcgimux::wire::Scanner::default(), 0, vec![]);
        while let Some(piece) = scanner.next(&bytes[at..]).unwrap() {
            at += piece.len();
            if let fcgimux::wire::Piece::Header(header) = piece {
                assert_eq!(header.id, 7);
                stdin.extend((header.kind == Kind::Stdin).then_some(usize::from(header.content)));
            }
        }
        assert_eq!((at, stdin), (bytes.len(), vec![MAX_CONTENT, MAX_CONTENT, 1, 0]));
    }
}
