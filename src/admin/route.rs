//! What a path asks for.

use crate::mux::command::Command;

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Route {
    /// The pool page for browsers, otherwise [`Route::Help`].
    Index,
    Help,
    Overview,
    Metrics,
    Live,
    Ready,
    Show(Shown),
    Verb {
        pool: String,
        command: Command,
    },
}

/// A part of the state, as JSON.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Shown {
    Pools,
    Pool(String),
    Endpoints(String),
    Endpoint { pool: String, endpoint: String },
    Connections(String),
    Waiters(String),
}

impl Route {
    /// `None`: there is no such page.
    pub(super) fn of(path: &str) -> Option<Self> {
        match path {
            "/" => Some(Self::Index),
            "/help" => Some(Self::Help),
            "/overview" => Some(Self::Overview),
            "/metrics" => Some(Self::Metrics),
            "/livez" => Some(Self::Live),
            "/readyz" => Some(Self::Ready),
            "/pools" | "/pools/" => Some(Self::Show(Shown::Pools)),
            _ => Self::of_pool(path.strip_prefix("/pools/")?),
        }
    }

    fn of_pool(path: &str) -> Option<Self> {
        let (pool, page) = path.split_once('/').unwrap_or((path, ""));
        let pool = decode(pool)?;
        let verb = |pool, command| Some(Self::Verb { pool, command });
        match page {
            "" => Some(Self::Show(Shown::Pool(pool))),
            "endpoints" | "endpoints/" => Some(Self::Show(Shown::Endpoints(pool))),
            "connections" => Some(Self::Show(Shown::Connections(pool))),
            "waiters" => Some(Self::Show(Shown::Waiters(pool))),
            "pause" => verb(pool, Command::Pause),
            "resume" => verb(pool, Command::Resume),
            "reconnect" => verb(pool, Command::Reconnect),
            _ => Self::of_endpoint(pool, page.strip_prefix("endpoints/")?),
        }
    }

    /// The path of a socket is understood whether its slashes are encoded or not.
    fn of_endpoint(pool: String, path: &str) -> Option<Self> {
        let command = match (path.strip_suffix("/drain"), path.strip_suffix("/undrain")) {
            (Some(endpoint), _) => Command::Drain(decode(endpoint)?),
            (None, Some(endpoint)) => Command::Undrain(decode(endpoint)?),
            (None, None) => return Some(Self::Show(Shown::Endpoint { pool, endpoint: decode(path)? })),
        };
        Some(Self::Verb { pool, command })
    }
}

/// Takes back percent-encoding (RFC 3986 section 2.1); `None` if what comes out is no text.
fn decode(part: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(part.len());
    let mut rest = part.as_bytes();
    while let Some((&byte, behind)) = rest.split_first() {
        rest = behind;
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let digits = std::str::from_utf8(rest.get(..2)?).ok()?;
        // from_str_radix would take a sign as well.
        if !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
            return None;
        }
        bytes.push(u8::from_str_radix(digits, 16).ok()?);
        rest = &rest[2..];
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drained(path: &str) -> Option<String> {
        match Route::of(path)? {
            Route::Verb { pool, command: Command::Drain(endpoint) } if pool == "php" => Some(endpoint),
            other => panic!("{path} is {other:?}"),
        }
    }

    #[test]
    fn an_endpoint_is_found_by_its_address_encoded_or_not() {
        for (path, endpoint) in [
            ("10.0.0.7:9000", "10.0.0.7:9000"),
            ("10.0.0.7%3A9000", "10.0.0.7:9000"),
            ("10.0.0.7%3a9000", "10.0.0.7:9000"),
            ("[fd00::7]:9000", "[fd00::7]:9000"),
            ("%5Bfd00%3A%3A7%5D%3A9000", "[fd00::7]:9000"),
            ("%2Frun%2Fphp.sock", "/run/php.sock"),
            ("/run/php.sock", "/run/php.sock"),
            ("/run/100%25%20drain", "/run/100% drain"),
            ("/run/caf%C3%A9", "/run/café"),
        ] {
            assert_eq!(drained(&format!("/pools/php/endpoints/{path}/drain")).as_deref(), Some(endpoint), "{path}");
        }
    }

    #[test]
    fn what_is_no_text_is_no_page() {
        for path in ["%", "%2", "%zz", "%+1", "%FF", "%é"] {
            assert_eq!(Route::of(&format!("/pools/php/endpoints/{path}/drain")), None, "{path}");
            assert_eq!(Route::of(&format!("/pools/{path}")), None, "{path}");
        }
    }

    #[test]
    fn each_page_of_a_pool_has_its_route() {
        let shown = |path: &str| match Route::of(path) {
            Some(Route::Show(shown)) => shown,
            other => panic!("{path} is {other:?}"),
        };
        let pool = || "php".to_owned();
        assert_eq!(shown("/pools"), Shown::Pools);
        assert_eq!(shown("/pools/"), Shown::Pools);
        assert_eq!(shown("/pools/php"), Shown::Pool(pool()));
        assert_eq!(shown("/pools/php/"), Shown::Pool(pool()));
        assert_eq!(shown("/pools/php/endpoints"), Shown::Endpoints(pool()));
        assert_eq!(shown("/pools/php/connections"), Shown::Connections(pool()));
        assert_eq!(shown("/pools/php/waiters"), Shown::Waiters(pool()));
        let endpoint = "10.0.0.7:9000".to_owned();
        assert_eq!(shown("/pools/php/endpoints/10.0.0.7:9000"), Shown::Endpoint { pool: pool(), endpoint });
        for path in ["/pool", "/poolsphp", "/pools/php/pauses", "/pools/php/connections/1", "/metrics/", ""] {
            assert_eq!(Route::of(path), None, "{path}");
        }
    }

    #[test]
    fn each_verb_has_its_route() {
        let endpoint = || "10.0.0.7:9000".to_owned();
        for (path, command) in [
            ("pause", Command::Pause),
            ("resume", Command::Resume),
            ("reconnect", Command::Reconnect),
            ("endpoints/10.0.0.7:9000/drain", Command::Drain(endpoint())),
            ("endpoints/10.0.0.7:9000/undrain", Command::Undrain(endpoint())),
        ] {
            let verb = Route::Verb { pool: "php".to_owned(), command };
            assert_eq!(Route::of(&format!("/pools/php/{path}")), Some(verb));
        }
    }
}
