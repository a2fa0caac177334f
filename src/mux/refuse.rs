//! Answers in the application's stead: complete CGI responses, so that a visitor sees a page and the web server's log
//! says what happened and to whom.

use super::label::Refusal;
use crate::wire::{EndRequest, Kind, ProtocolStatus, put_record, put_stderr};

/// Why a request is refused: the kind for metrics and status, the detail for the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    pub refusal: Refusal,
    pub detail: String,
}

/// The HTTP status of an answer of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    BadRequest,
    Forbidden,
    RequestTimeout,
    ContentTooLarge,
    HeaderFieldsTooLarge,
    InternalServerError,
    BadGateway,
    ServiceUnavailable,
    GatewayTimeout,
}

impl Status {
    /// As a number, for logs.
    pub fn code(self) -> u16 {
        // Every line begins with it.
        self.line()[..3].parse().unwrap_or_default()
    }

    pub const fn line(self) -> &'static str {
        match self {
            Self::BadRequest => "400 Bad Request",
            Self::Forbidden => "403 Forbidden",
            Self::RequestTimeout => "408 Request Timeout",
            Self::ContentTooLarge => "413 Content Too Large",
            Self::HeaderFieldsTooLarge => "431 Request Header Fields Too Large",
            Self::InternalServerError => "500 Internal Server Error",
            Self::BadGateway => "502 Bad Gateway",
            Self::ServiceUnavailable => "503 Service Unavailable",
            Self::GatewayTimeout => "504 Gateway Timeout",
        }
    }
}

impl Refusal {
    /// What END_REQUEST says. Never OVERLOADED: on that HAProxy closes the connection with all that runs on it. And a page
    /// always comes with it: where nothing but END_REQUEST comes HAProxy waits for a response (docs/web-servers.md).
    pub const fn protocol_status(self) -> ProtocolStatus {
        match self {
            Self::RequestsInFlight => ProtocolStatus::CantMpxConn,
            _ => ProtocolStatus::RequestComplete,
        }
    }

    pub const fn status(self) -> Status {
        match self {
            Self::QueueFull | Self::QueueTimeout | Self::NoEndpoint | Self::Connections | Self::RequestsInFlight => {
                Status::ServiceUnavailable
            }
            Self::ParamsTooLarge | Self::TooManyParams => Status::HeaderFieldsTooLarge,
            Self::BodyTooLarge => Status::ContentTooLarge,
            Self::ParamDenied => Status::Forbidden,
            Self::Malformed | Self::LengthMismatch => Status::BadRequest,
            Self::ReadTimeout => Status::RequestTimeout,
            Self::Storage => Status::InternalServerError,
        }
    }
}

/// Appends a whole response: STDERR for the web server's log, STDOUT with a Status line, END_REQUEST. What the log is
/// told (`detail`) a visitor is not.
pub fn put_response(out: &mut Vec<u8>, id: u16, status: Status, detail: &str) {
    put_page(out, id, status, detail);
    put_end(out, id, ProtocolStatus::RequestComplete);
}

/// Appends a response of which nothing has come; the detail is for the web server's log.
pub fn put_nothing(out: &mut Vec<u8>, id: u16, detail: &str) {
    put_note(out, id, detail);
    put_end(out, id, ProtocolStatus::RequestComplete);
}

/// The same for a request that is refused.
pub fn put_refusal(out: &mut Vec<u8>, id: u16, why: &Refused) {
    put_page(out, id, why.refusal.status(), &why.detail);
    put_end(out, id, why.refusal.protocol_status());
}

fn put_page(out: &mut Vec<u8>, id: u16, status: Status, detail: &str) {
    let line = status.line();
    put_note(out, id, detail);
    put_record(out, Kind::Stderr, id, &[]);
    let retry = if status == Status::ServiceUnavailable { "Retry-After: 1\r\n" } else { "" };
    let page = format!(
        "Status: {line}\r\nContent-Type: text/plain; charset=utf-8\r\nCache-Control: no-store\r\n{retry}\r\n{line}\n"
    );
    put_record(out, Kind::Stdout, id, page.as_bytes());
    put_record(out, Kind::Stdout, id, &[]);
}

/// Appends words for the web server's log.
pub fn put_note(out: &mut Vec<u8>, id: u16, detail: &str) {
    let detail: String = detail.chars().take(1000).collect();
    put_stderr(out, id, format!("fcgimux: {detail}").as_bytes());
}

/// Appends an END_REQUEST with app status 0.
pub fn put_end(out: &mut Vec<u8>, id: u16, protocol_status: ProtocolStatus) {
    put_record(out, Kind::EndRequest, id, &EndRequest { app_status: 0, protocol_status }.encode());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_refusal_is_a_whole_response_that_hides_its_detail_from_the_visitor() {
        for refusal in Refusal::ALL {
            let mut out = vec![];
            put_response(&mut out, 7, refusal.status(), "endpoint php:9000 is down");
            let text = String::from_utf8_lossy(&out);
            assert!(refusal.status().line().starts_with(&format!("{} ", refusal.status().code())));
            let (log, page) = text.split_once("Status: ").unwrap();
            assert!(log.contains("php:9000") && !page.contains("php:9000"));
            assert_eq!(page.contains("Retry-After"), page.starts_with("503"));
            assert_eq!(out[out.len() - 16..][..4], [1, 3, 0, 7]);
        }
    }
}
