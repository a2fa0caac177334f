//! Answers whose lines are bounded: the client library keeps a line until it is whole, and a list is one.

use bytes::Bytes;
use hyper::body::{Body, Frame};
use std::{
    error::Error,
    pin::Pin,
    task::{Context, Poll, ready},
};

/// A slice of 1,000 endpoints takes about 600 kB, and a list holds all slices of a Service.
const LINE_AT_MOST: usize = 32 << 20;

type Failure = Box<dyn Error + Send + Sync>;

/// The body of an answer; fails where a line of it is too long.
pub(super) struct Lines<B> {
    body: B,
    /// Bytes since the last line feed.
    line: usize,
}

impl<B> Lines<B> {
    pub(super) fn new(body: B) -> Self {
        Self { body, line: 0 }
    }

    fn take(&mut self, data: &[u8]) -> Result<(), Failure> {
        let last = data.iter().rposition(|byte| *byte == b'\n');
        self.line = match last {
            Some(at) => data.len() - at - 1,
            None => self.line.saturating_add(data.len()),
        };
        match self.line > LINE_AT_MOST {
            true => Err(format!("an answer with a line of more than {} MiB", LINE_AT_MOST >> 20).into()),
            false => Ok(()),
        }
    }
}

impl<B: Body<Data = Bytes, Error: Into<Failure>> + Unpin> Body for Lines<B> {
    type Data = Bytes;
    type Error = Failure;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Failure>>> {
        let frame = match ready!(Pin::new(&mut self.body).poll_frame(context)) {
            None => return Poll::Ready(None),
            Some(frame) => frame.map_err(Into::into)?,
        };
        if let Some(data) = frame.data_ref() {
            self.take(data)?;
        }
        Poll::Ready(Some(Ok(frame)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_may_be_long_but_not_endless() {
        let mut lines = Lines::new(());
        let chunk = vec![b'x'; 1 << 20];
        for _ in 0..32 {
            lines.take(&chunk).unwrap();
        }
        lines.take(b"end\nnext").unwrap();
        for _ in 0..31 {
            lines.take(&chunk).unwrap();
        }
        assert!(lines.take(&chunk).unwrap_err().to_string().contains("32 MiB"));
    }
}
