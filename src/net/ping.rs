//! The active check: asks php-fpm for the page of `ping.path` now and then, on a connection of its own.
//!
//! At the ordinary port it costs a worker for a moment, and waits for one like everybody else. At the port of
//! `pm.status_listen` it costs none, and says no more than that php-fpm itself is there (fact 15.2).

use super::status::{Episode, Page, StatusError, jittered};
use std::time::Duration;

/// What a check found of a php-fpm that can be reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pong {
    Answered,
    /// Nobody has answered in time. All workers may be busy, which is no illness.
    Late,
}

impl Page {
    /// Asks for the page every `interval` until it is dropped, and reports how that went. Never asks twice at once.
    pub(super) async fn keep_pinging(self, interval: Duration, report: impl Fn(Result<Pong, StatusError>)) {
        let (limit, mut episode) = (self.timeouts.prove, Episode::default());
        loop {
            let pong = match self.ask("", limit).await {
                Ok(_) => Ok(Pong::Answered),
                Err(StatusError::Late(_)) => Ok(Pong::Late),
                Err(error) => Err(error),
            };
            self.log(&pong, &mut episode);
            report(pong);
            tokio::time::sleep(jittered(interval)).await;
        }
    }

    fn log(&self, pong: &Result<Pong, StatusError>, episode: &mut Episode) {
        let (pool, endpoint, path) = (&self.pool, &self.endpoint, &self.path);
        match pong {
            Ok(Pong::Answered) => {
                if let Some(lasted) = episode.ends() {
                    tracing::info!(pool, endpoint, "{path} is answered again after {lasted:.1?}");
                }
            }
            // Neither the end of an episode nor the beginning of one.
            Ok(Pong::Late) => tracing::debug!(pool, endpoint, "{path} was not answered in time (timeouts.prove)"),
            Err(error) if episode.begins() => {
                tracing::warn!(pool, endpoint, "{path} at {} failed: {error}; {}", self.address, advice(error));
            }
            Err(_) => {}
        }
    }
}

fn advice(error: &StatusError) -> &'static str {
    match error {
        StatusError::Answer(_) => "ping.path here must be that of php-fpm",
        _ => "the endpoint is left alone if that goes on",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        config::{EndpointAddress, Timeouts},
        wire::{Kind, put_record},
    };
    use std::sync::mpsc;
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpListener,
    };

    fn answer(output: &str) -> Vec<u8> {
        let mut out = vec![];
        put_record(&mut out, Kind::Stdout, 1, output.as_bytes());
        put_record(&mut out, Kind::EndRequest, 1, &[0; 8]);
        out
    }

    #[tokio::test]
    async fn a_late_answer_is_no_failure_and_a_missing_page_is_one() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = EndpointAddress::Tcp(listener.local_addr().unwrap());
        let (connect, prove) = (Duration::from_secs(5), Duration::from_millis(300));
        let timeouts = Timeouts { connect, prove, first_byte: None, between_bytes: None, exchange: None };
        let page = Page { pool: "php".into(), endpoint: "one".into(), address, path: "/ping".into(), timeouts };
        let (told, heard) = mpsc::sync_channel(9);
        let report = move |pong: Result<Pong, StatusError>| {
            told.send(pong.map_err(|error| error.to_string())).unwrap();
        };
        let pinging = tokio::spawn(page.keep_pinging(Duration::from_millis(1), report));
        let answers =
            [answer("Content-Type: text/plain\r\n\r\npong"), vec![], answer("Status: 404 Not Found\r\n\r\n"), vec![]];
        for answer in answers {
            let (mut stream, _) = listener.accept().await.unwrap();
            _ = stream.read(&mut [0; 1000]).await;
            stream.write_all(&answer).await.unwrap();
            // Without an answer the other side gives up.
            _ = stream.read(&mut [0; 1000]).await;
        }
        pinging.abort();
        let heard: Vec<_> = heard.try_iter().take(3).collect();
        assert_eq!(heard, [Ok(Pong::Answered), Ok(Pong::Late), Err("status 404".to_owned())]);
    }
}
