//! Who may use the verbs: by address, and never a page that a browser has loaded from somewhere else.

use crate::config::Verbs;
use hyper::{
    HeaderMap, Uri,
    header::{FORWARDED, HOST, HeaderName, ORIGIN},
};
use std::net::IpAddr;

/// Whether the request was made by a page of the same origin, a related one or a foreign one (Fetch Metadata).
const FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// As [`FORWARDED`]; there is no standard for it, but everybody sends it.
const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// Why this client may not use a verb; none: it may.
pub(super) fn refusal(verbs: Verbs, peer: IpAddr, uri: &Uri, headers: &HeaderMap) -> Option<&'static str> {
    let host = host(uri, headers);
    match verbs {
        Verbs::Off => return Some("verbs are off (admin.verbs)"),
        Verbs::Loopback => {
            if !peer.to_canonical().is_loopback() {
                return Some("only clients that come from a loopback address may use verbs (admin.verbs)");
            }
            // A proxy on this host has a loopback address, whoever it asks for.
            if headers.contains_key(FORWARDED) || headers.contains_key(FORWARDED_FOR) {
                return Some(
                    "asked by a proxy for somebody else; only clients that come from a loopback address may use verbs \
                     (admin.verbs)",
                );
            }
            // A name may have been made to lead here, so that a browser on this host takes its pages for ours.
            if !host.is_some_and(leads_here) {
                return Some("ask by an IP address or as localhost");
            }
        }
        Verbs::On => {}
    }
    if !headers.get_all(ORIGIN).iter().all(|origin| host.is_some_and(|host| is_ours(origin.as_bytes(), host))) {
        return Some("asked by a page of another origin");
    }
    let foreign = |site: &[u8]| !matches!(site, b"same-origin" | b"none");
    let is_foreign = headers.get_all(FETCH_SITE).iter().any(|site| foreign(site.as_bytes()));
    is_foreign.then_some("asked by a page of another site")
}

/// Whom the client takes us for. None unless it says so once.
fn host<'a>(uri: &'a Uri, headers: &'a HeaderMap) -> Option<&'a str> {
    let mut all = headers.get_all(HOST).iter();
    let header = all.next();
    if all.next().is_some() {
        return None;
    }
    // A whole URL as the target of a request is meant before Host (RFC 9112 section 3.2.2).
    match uri.authority() {
        Some(authority) => Some(authority.as_str()),
        None => header?.to_str().ok(),
    }
}

/// An address or `localhost`, with a port or without: nothing that a foreign DNS server has a say in.
fn leads_here(host: &str) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if !port.is_empty() && port.bytes().all(|digit| digit.is_ascii_digit()) => name,
        _ => host,
    };
    match name.strip_prefix('[') {
        Some(rest) => rest.strip_suffix(']').is_some_and(|address| address.parse::<std::net::Ipv6Addr>().is_ok()),
        None => name.eq_ignore_ascii_case("localhost") || name.parse::<std::net::Ipv4Addr>().is_ok(),
    }
}

/// Something in front of us may speak TLS.
fn is_ours(origin: &[u8], host: &str) -> bool {
    let name = origin.strip_prefix(b"http://").or_else(|| origin.strip_prefix(b"https://"));
    name.is_some_and(|name| name.eq_ignore_ascii_case(host.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use hyper::header::HeaderValue;

    const HERE: &str = "127.0.0.1";

    fn refused(verbs: Verbs, peer: &str, headers: &[(&str, &str)]) -> Option<&'static str> {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(HeaderName::from_bytes(name.as_bytes()).unwrap(), HeaderValue::from_str(value).unwrap());
        }
        refusal(verbs, peer.parse().unwrap(), &Uri::from_static("/pools/php/pause"), &map)
    }

    #[test]
    fn nobody_may_where_verbs_are_off() {
        assert!(refused(Verbs::Off, HERE, &[("host", "127.0.0.1:9253")]).is_some());
    }

    #[test]
    fn only_clients_on_this_host_may_by_default() {
        for (peer, may) in
            [("127.0.0.1", true), ("127.0.0.6", true), ("::1", true), ("::ffff:127.0.0.1", true), ("10.0.0.5", false)]
        {
            assert_eq!(refused(Verbs::Loopback, peer, &[("host", "localhost:9253")]).is_none(), may, "{peer}");
        }
        for name in ["forwarded", "x-forwarded-for"] {
            let headers = [("host", "127.0.0.1"), (name, "10.0.0.5")];
            assert!(refused(Verbs::Loopback, HERE, &headers).is_some(), "{name}");
        }
    }

    #[test]
    fn everybody_may_where_verbs_are_on() {
        assert_eq!(refused(Verbs::On, "10.0.0.5", &[("host", "fcgimux.shop.svc:9253")]), None);
        assert_eq!(refused(Verbs::On, "10.0.0.5", &[("x-forwarded-for", "10.0.0.6")]), None);
    }

    #[test]
    fn a_name_that_may_have_been_made_to_lead_here_is_refused() {
        for host in ["localhost", "LOCALHOST:9253", "127.0.0.1", "10.0.0.7:9253", "[::1]", "[::1]:9253"] {
            assert_eq!(refused(Verbs::Loopback, HERE, &[("host", host)]), None, "{host}");
        }
        for host in ["", "evil.example", "evil.example:9253", "127.0.0.1.evil.example", "localhost.evil.example"] {
            assert!(refused(Verbs::Loopback, HERE, &[("host", host)]).is_some(), "{host}");
        }
        for host in ["::1", "[::1", "[localhost]", "[127.0.0.1]:1", "localhost:", "localhost:80a", "127.0.0.1:1:2"] {
            assert!(refused(Verbs::Loopback, HERE, &[("host", host)]).is_some(), "{host}");
        }
        assert!(refused(Verbs::Loopback, HERE, &[]).is_some());
        assert!(refused(Verbs::Loopback, HERE, &[("host", "127.0.0.1"), ("host", "127.0.0.1")]).is_some());
    }

    #[test]
    fn the_target_of_a_request_is_believed_before_its_host() {
        let mut headers = HeaderMap::new();
        headers.insert(HOST, HeaderValue::from_static("127.0.0.1"));
        let uri = Uri::from_static("http://evil.example/pools/php/pause");
        assert!(refusal(Verbs::Loopback, HERE.parse().unwrap(), &uri, &headers).is_some());
    }

    #[test]
    fn a_page_of_another_origin_is_refused() {
        for verbs in [Verbs::Loopback, Verbs::On] {
            let with = |origin| refused(verbs, HERE, &[("host", "127.0.0.1:9253"), ("origin", origin)]);
            assert_eq!(with("http://127.0.0.1:9253"), None);
            for origin in
                ["null", "", "http://evil.example", "http://127.0.0.1", "http://127.0.0.1:80", "127.0.0.1:9253"]
            {
                assert!(with(origin).is_some(), "{origin}");
            }
        }
        assert!(refused(Verbs::On, HERE, &[("origin", "http://127.0.0.1:9253")]).is_some(), "without a Host");
    }

    #[test]
    fn a_page_of_another_site_is_refused() {
        for verbs in [Verbs::Loopback, Verbs::On] {
            let with = |site| refused(verbs, HERE, &[("host", "127.0.0.1:9253"), ("sec-fetch-site", site)]);
            assert_eq!(with("same-origin"), None);
            assert_eq!(with("none"), None);
            for site in ["cross-site", "same-site", "something new"] {
                assert!(with(site).is_some(), "{site}");
            }
        }
    }
}
