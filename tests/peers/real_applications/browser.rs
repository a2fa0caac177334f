//! A browser without scripts: it keeps cookies, follows redirects, fills in forms, and remembers each exchange.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    time::{Duration, Instant},
};

use super::{form::Form, markup::plain};
use crate::support::{Answer, ask};

/// One exchange may take so long: an installation makes many tables on a machine that has other work.
const PATIENCE: Duration = Duration::from_secs(60);
const HOPS: usize = 8;

pub(super) struct Browser {
    address: SocketAddr,
    cookies: BTreeMap<String, String>,
    exchanges: Vec<Exchange>,
}

#[derive(Clone, Debug)]
pub(super) struct Exchange {
    /// Method and path.
    pub(super) request: String,
    pub(super) answer: Answer,
    pub(super) took: Duration,
}

/// An answer, and where it came from.
#[derive(Clone, Debug)]
pub(super) struct Page {
    pub(super) path: String,
    pub(super) status: u16,
    pub(super) text: String,
    headers: Vec<(String, String)>,
}

impl Browser {
    pub(super) fn at(address: SocketAddr) -> Self {
        Self { address, cookies: BTreeMap::new(), exchanges: Vec::new() }
    }

    /// What was said since this was asked last.
    pub(super) fn take_exchanges(&mut self) -> Vec<Exchange> {
        std::mem::take(&mut self.exchanges)
    }

    /// A page, behind its redirects.
    #[track_caller]
    pub(super) fn open(&mut self, path: &str) -> Page {
        let page = self.send("GET", path, &[], b"");
        self.follow(page)
    }

    /// The page behind a form, which was a form of `page`.
    #[track_caller]
    pub(super) fn submit(&mut self, page: &Page, form: &Form) -> Page {
        let action = self.resolve(&page.path, &form.action);
        if form.in_address {
            return self.open(&format!("{action}?{}", form.encoded()));
        }
        let (kind, body) = form.body();
        let page = self.send("POST", &action, &[("Content-Type", &kind)], &body);
        self.follow(page)
    }

    /// One exchange.
    #[track_caller]
    pub(super) fn send(&mut self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Page {
        let mut bytes = self.head(method, path, headers, body.len()).into_bytes();
        bytes.extend_from_slice(body);
        let start = Instant::now();
        let answer = ask(self.address, &bytes, PATIENCE).unwrap_or_else(|error| panic!("{method} {path}: {error}"));
        let took = start.elapsed();
        self.take_cookies(&answer);
        let page = Page {
            path: path.to_owned(),
            status: answer.status,
            text: String::from_utf8_lossy(&answer.body).into_owned(),
            headers: answer.headers.clone(),
        };
        self.exchanges.push(Exchange { request: format!("{method} {path}"), answer, took });
        page
    }

    /// Goes on without them, as somebody else.
    pub(super) fn leave_cookies(&mut self) -> BTreeMap<String, String> {
        std::mem::take(&mut self.cookies)
    }

    pub(super) fn take_up_cookies(&mut self, cookies: BTreeMap<String, String>) {
        self.cookies = cookies;
    }

    fn head(&self, method: &str, path: &str, headers: &[(&str, &str)], length: usize) -> String {
        let mut head = format!(
            "{method} {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\nUser-Agent: Mozilla/5.0 (test)\r\n\
             Accept: text/html,*/*;q=0.8\r\nAccept-Language: en\r\n",
            self.address
        );
        if !self.cookies.is_empty() {
            let cookies: Vec<_> = self.cookies.iter().map(|(name, value)| format!("{name}={value}")).collect();
            head += &format!("Cookie: {}\r\n", cookies.join("; "));
        }
        if length > 0 || ["POST", "PUT", "PATCH"].contains(&method) {
            head += &format!("Content-Length: {length}\r\n");
        }
        for (name, value) in headers {
            head += &format!("{name}: {value}\r\n");
        }
        head + "\r\n"
    }

    #[track_caller]
    fn follow(&mut self, mut page: Page) -> Page {
        for _ in 0..HOPS {
            let location = page.header("location").filter(|_| (301..=303).contains(&page.status));
            let Some(location) = location else { return page };
            let next = self.resolve(&page.path, location);
            page = self.send("GET", &next, &[], b"");
        }
        panic!("more than {HOPS} redirects, the last to {}", page.path);
    }

    /// The path that a link of a page means.
    #[track_caller]
    fn resolve(&self, page: &str, link: &str) -> String {
        let link = plain(link);
        let own = format!("http://{}", self.address);
        let link = link.strip_prefix(&own).unwrap_or(&link).split('#').next().unwrap_or_default();
        assert!(!link.contains("://"), "{page} leads elsewhere: {link}");
        let without_query = page.split('?').next().unwrap_or_default();
        match link {
            "" => page.to_owned(),
            link if link.starts_with('/') => link.to_owned(),
            link if link.starts_with('?') => format!("{without_query}{link}"),
            link => format!("{}/{link}", without_query.rsplit_once('/').map_or("", |(folder, _)| folder)),
        }
    }

    fn take_cookies(&mut self, answer: &Answer) {
        for (_, cookie) in answer.headers.iter().filter(|(name, _)| name == "set-cookie") {
            let Some((name, value)) = cookie.split(';').next().and_then(|pair| pair.split_once('=')) else { continue };
            let gone = cookie.contains("01-Jan-1970") || cookie.contains("Max-Age=0") || value == "deleted";
            if gone || value.trim().is_empty() {
                self.cookies.remove(name);
            } else {
                self.cookies.insert(name.to_owned(), value.to_owned());
            }
        }
    }
}

impl Page {
    /// Fails unless the page has this status and holds this text.
    #[track_caller]
    pub(super) fn shows(&self, status: u16, text: &str) -> &Self {
        let start: String = self.text.chars().take(6_000).collect();
        assert!(
            self.status == status && self.text.contains(text),
            "{} {}, no {text:?}: {start}",
            self.path,
            self.status
        );
        self
    }

    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// What stands between two texts.
    #[track_caller]
    pub(super) fn between(&self, before: &str, behind: &str) -> String {
        let found = self.text.split_once(before).and_then(|(_, rest)| rest.split_once(behind));
        found.map_or_else(
            || panic!("{}: no {before}...{behind} in {}", self.path, self.text),
            |(text, _)| text.to_owned(),
        )
    }

    #[track_caller]
    pub(super) fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{}: {error}: {}", self.path, self.text))
    }
}
