//! Bodies with a request in them, as somebody sends them who wants php-fpm to take a part of his body for a request.

use std::time::Duration;

use super::{
    PhpFpm,
    fcgi::{self, Call},
};

pub const OCTETS: &str = "application/octet-stream";
/// How the lines of [`PhpFpm::side_effects`] begin that a planted request has written.
pub const MARK: &str = "PLANTED";

const SOON: Duration = Duration::from_secs(3);
/// What is planted is answered on the same connection, or the connection ends: both at once.
const AT_ONCE: Duration = Duration::from_millis(50);

/// Where a planted request may stand so that it is found, by modulo the length of an empty record.
pub const SHIFTS: std::ops::Range<usize> = 0..8;

/// A body of this size with a planted request at its end.
#[derive(Clone, Copy, Debug)]
pub struct Body<'a> {
    pub content_type: &'a str,
    /// What comes in front of the planted records.
    pub start: &'a [u8],
    pub size: usize,
}

impl Body<'_> {
    /// Where php-fpm would go on to read is not known in advance: a row of empty STDIN records, which it skips between
    /// requests, leads to the planted one from every offset that is right by modulo 8.
    pub fn bytes(&self, php: &PhpFpm, shift: usize) -> Vec<u8> {
        let planted = Call::get(&php.script("planted.php")).id(7).head();
        let mut body = self.start.to_vec();
        body.resize(self.start.len() + shift, b'-');
        while body.len() + planted.len() + 8 <= self.size {
            body.extend(fcgi::stdin_end(1));
        }
        body.extend(planted);
        body.resize(self.size.max(body.len()), b'-');
        body
    }

    /// Whether the planted request is executed when `call` brings it, past fcgimux and on a kept connection unless `call`
    /// says otherwise.
    #[track_caller]
    pub fn is_executed(&self, php: &PhpFpm, call: &Call) -> bool {
        php.clear_side_effects();
        for shift in SHIFTS {
            let mut connection = php.proven();
            let call = call.clone().body(self.content_type, self.bytes(php, shift));
            // A worker that ends the connection before it has read everything cuts the request off.
            let _ = connection.try_send(&call.bytes());
            connection.reply(SOON);
            connection.reply(AT_ONCE);
            connection.reset();
            php.proven().reset();
        }
        php.side_effects().iter().any(|line| line.starts_with(MARK))
    }
}
