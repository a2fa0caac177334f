//! The web servers, each with the configuration that the documentation gives.

use std::{fs, net::SocketAddr, path::Path};

use crate::support::{Apache, Caddy, Haproxy, Lighttpd, Nginx, Port};

/// A heading of docs/web-servers.md.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Front(pub(crate) &'static str);

pub(crate) const NGINX: Front = Front("nginx, a connection for each request");
pub(crate) const NGINX_KEPT: Front = Front("nginx, kept connections");
pub(crate) const NGINX_UNBUFFERED: Front = Front("nginx, nothing buffered");
pub(crate) const APACHE: Front = Front("Apache, a connection for each request");
pub(crate) const APACHE_KEPT: Front = Front("Apache, kept connections");
pub(crate) const LIGHTTPD: Front = Front("lighttpd");
pub(crate) const CADDY: Front = Front("Caddy");
pub(crate) const HAPROXY: Front = Front("HAProxy, a connection for each request");
pub(crate) const HAPROXY_KEPT: Front = Front("HAProxy, kept connections");
pub(crate) const HAPROXY_MANY: Front = Front("HAProxy, many exchanges on a connection");

/// One of them, running.
pub(crate) enum Running {
    /// And the port of the documented server: the one that the support sets up beside it passes nothing.
    Nginx(Nginx, Port),
    Apache(Apache),
    Lighttpd(Lighttpd),
    Caddy(Caddy),
    Haproxy(Haproxy),
}

impl Front {
    /// Serves the scripts below `root` through the application at `socket`.
    #[track_caller]
    pub(crate) fn start(self, root: &Path, socket: &Path) -> Running {
        let (kind, text) = self.snippet();
        let text = text
            .replace("/run/fcgimux.sock", &socket.display().to_string())
            .replace("/srv/www", &root.display().to_string())
            .replace("127.0.0.1:8080", "{address}")
            .replace("8080", "{port}");
        match kind.as_str() {
            "nginx" => {
                let port = Port::free();
                let text = text.replace("{address}", &port.address().to_string());
                // The support ends what it is given with a semicolon, so a plain directive must stand last.
                let nginx = Nginx::site(root, socket).http(&format!("{text}\nserver_tokens on")).start();
                Running::Nginx(nginx, port)
            }
            "apache" => Running::Apache(Apache::with(&text)),
            "lighttpd" => Running::Lighttpd(Lighttpd::with(&text)),
            "caddyfile" => Running::Caddy(Caddy::with(&text)),
            // One thread keeps one set of connections, which can be counted.
            "haproxy" => Running::Haproxy(Haproxy::with_global("nbthread 1", &text)),
            other => panic!("no web server speaks {other}"),
        }
    }

    /// Whether what a script flushes reaches the visitor before the script ends.
    pub(crate) fn streams(self) -> bool {
        // Both hold back what does not fill a buffer.
        self != NGINX && self != APACHE
    }

    /// The longest body without a length that it takes.
    pub(crate) fn chunked_up_to(self) -> usize {
        // HAProxy waits for the whole of it in one buffer (`tune.bufsize`, 16 KiB), to say its length.
        if self.is_haproxy() { 12_000 } else { usize::MAX }
    }

    /// The largest body that may be sent while others begin.
    pub(crate) fn largest_body_beside_others(self) -> usize {
        // While one fills its buffer to a shared connection, HAProxy 2.6 begins others, aborts them at once, and answers
        // 500 itself, whatever the application does.
        if self == HAPROXY_MANY { 100 } else { usize::MAX }
    }

    /// Whether its log holds what the application writes to STDERR.
    pub(crate) fn logs_stderr(self) -> bool {
        // Of 2.6 it does not (later ones have `capture_stderr`).
        self != CADDY
    }

    /// Whether a visitor can tell a response without Content-Length that broke off from a whole one.
    pub(crate) fn shows_breaks(self) -> bool {
        // 2.6 logs "aborting with incomplete response", and ends it in order all the same.
        self != CADDY
    }

    pub(crate) fn is_haproxy(self) -> bool {
        self.0.starts_with("HAProxy")
    }

    /// Language and text of the code under its heading.
    #[track_caller]
    fn snippet(self) -> (String, String) {
        let file = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/web-servers.md");
        let text = fs::read_to_string(file).expect("docs/web-servers.md");
        let heading = format!("### {}\n", self.0);
        let section = text.split_once(&heading).unwrap_or_else(|| panic!("no heading {heading}")).1;
        let code = section.split_once("```").expect("code under the heading").1;
        let (kind, code) = code.split_once('\n').expect("a language");
        let code = code.split_once("```").expect("an end of the code").0;
        (kind.to_owned(), code.to_owned())
    }
}

impl Running {
    pub(crate) fn address(&self) -> SocketAddr {
        match self {
            Self::Nginx(_, port) => port.address(),
            Self::Apache(server) => server.address(),
            Self::Lighttpd(server) => server.address(),
            Self::Caddy(server) => server.address(),
            Self::Haproxy(server) => server.address(),
        }
    }

    #[track_caller]
    pub(crate) fn is_running(&mut self) -> bool {
        match self {
            Self::Haproxy(server) => server.is_running(),
            _ => panic!("only asked of HAProxy"),
        }
    }

    pub(crate) fn log(&self) -> String {
        match self {
            Self::Nginx(server, _) => server.error_log(),
            Self::Apache(server) => server.log(),
            Self::Lighttpd(server) => server.log(),
            Self::Caddy(server) => server.log(),
            Self::Haproxy(server) => server.log(),
        }
    }
}
