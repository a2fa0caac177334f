use super::*;
use crate::wire::{Kind, put_record};
use std::sync::{
    Arc, Mutex,
    atomic::{AtomicUsize, Ordering},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

const BOARD: &str = r#"{"pool":"www","listen queue":3,"listen queue len":9,"processes":[{"state":"Idle"}]}"#;
const SOON: Duration = Duration::from_secs(5);
const HEAD: &str = "Content-Type: application/json\r\n\r\n";

fn answer(output: &str) -> Vec<u8> {
    let mut out = vec![];
    output.as_bytes().chunks(60_000).for_each(|part| put_record(&mut out, Kind::Stdout, 1, part));
    put_record(&mut out, Kind::EndRequest, 1, &[0; 8]);
    out
}

/// A listener, and the page as asked for there.
async fn stage() -> (TcpListener, Page) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = EndpointAddress::Tcp(listener.local_addr().unwrap());
    (listener, page(address))
}

fn page(address: EndpointAddress) -> Page {
    let (first_byte, between_bytes, exchange) = (None, None, None);
    let timeouts = Timeouts { connect: SOON, prove: SOON, first_byte, between_bytes, exchange };
    Page { pool: "php".into(), endpoint: "one".into(), address, path: "/status".into(), timeouts }
}

/// Reads the question and answers with these bytes.
async fn serve(listener: &TcpListener, bytes: &[u8]) -> TcpStream {
    let (mut stream, _) = listener.accept().await.unwrap();
    let mut question = vec![0; question("/status", scoreboard::QUERY).len()];
    stream.read_exact(&mut question).await.unwrap();
    stream.write_all(bytes).await.unwrap();
    stream
}

#[tokio::test]
async fn a_page_is_asked_for_once_and_the_connection_ends_with_a_reset() {
    let (listener, page) = stage().await;
    let server = async {
        let bytes = answer(&format!("{HEAD}{BOARD}"));
        let mut stream = serve(&listener, &bytes).await;
        stream.read(&mut [0]).await.map_err(|error| error.kind())
    };
    let (body, end) = tokio::join!(page.ask(scoreboard::QUERY, SOON), server);
    assert_eq!(body.unwrap(), BOARD.as_bytes());
    assert_eq!(end, Err(io::ErrorKind::ConnectionReset));
}

#[tokio::test]
async fn what_goes_wrong_is_told_apart_with_what_to_do_about_it() {
    let cases: [(&[u8], &str, &str); 5] = [
        (b"", "closed before the answer was whole", "listen.allowed_clients"),
        (&answer("Status: 404 Not Found\r\n\r\n"), "status 404", "pm.status_path"),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "not a FastCGI record", "is it php-fpm"),
        (&answer(&format!("{HEAD}pong")), "not php-fpm's status as JSON", "is it php-fpm"),
        (&answer(&"x".repeat(PAGE_AT_MOST + 1)), "more than 4194304 bytes", "is it php-fpm"),
    ];
    for (bytes, words, what_to_do) in cases {
        let (listener, page) = stage().await;
        let ask = async {
            let body = page.ask(scoreboard::QUERY, SOON).await?;
            Ok::<_, StatusError>(Scoreboard::parse(&body)?)
        };
        let server = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            // The other side may have had enough before the end.
            _ = stream.read(&mut [0; 1000]).await;
            _ = stream.write_all(bytes).await;
        };
        let (board, ()) = tokio::join!(ask, server);
        let error = board.unwrap_err();
        assert!(error.to_string().contains(words), "{error}");
        assert!(advice(&error).contains(what_to_do), "{error}: {}", advice(&error));
    }
}

#[tokio::test]
async fn one_that_does_not_answer_is_late_and_one_that_does_not_listen_cannot_be_connected_to() {
    let (listener, page) = stage().await;
    let error = page.ask(scoreboard::QUERY, Duration::from_millis(20)).await.unwrap_err();
    assert!(matches!(error, StatusError::Late(_)), "{error}");
    drop(listener);
    let error = page.ask(scoreboard::QUERY, SOON).await.unwrap_err();
    assert!(matches!(error, StatusError::Connect(_)) && advice(&error).contains("pm.status_listen"), "{error}");
}

#[tokio::test]
async fn the_page_is_asked_for_again_and_again_but_never_twice_at_once() {
    let (listener, page) = stage().await;
    let (heard, at_once) = (Arc::new(Mutex::new(vec![])), Arc::new(AtomicUsize::new(0)));
    let report = {
        let heard = heard.clone();
        move |board: Result<Scoreboard, StatusError>| {
            heard.lock().unwrap().push(board.map(|board| board.queue()).map_err(|error| error.to_string()));
        }
    };
    let asking = tokio::spawn(page.keep_asking(Duration::from_millis(10), report));
    for turn in 0..4 {
        let (mut stream, _) = listener.accept().await.unwrap();
        let running = at_once.clone();
        tokio::spawn(async move {
            assert_eq!(running.fetch_add(1, Ordering::SeqCst), 0, "two at once");
            // Longer than the period.
            sleep(Duration::from_millis(50)).await;
            running.fetch_sub(1, Ordering::SeqCst);
            let bytes = if turn == 1 { vec![0] } else { answer(&format!("{HEAD}{BOARD}")) };
            stream.write_all(&bytes).await.unwrap();
            _ = stream.read(&mut [0; 1000]).await;
        });
    }
    // The fifth has begun: the fourth has been reported.
    listener.accept().await.unwrap();
    asking.abort();
    let heard = heard.lock().unwrap();
    let words: Vec<_> = heard.iter().map(|each| each.as_ref().map_err(|words| words.contains("version 0"))).collect();
    assert_eq!(words, [Ok(&Some(3)), Err(true), Ok(&Some(3)), Ok(&Some(3))]);
}

#[test]
fn failures_in_a_row_are_one_episode() {
    let mut episode = Episode::default();
    assert!(episode.ends().is_none());
    assert!(episode.begins() && !episode.begins() && !episode.begins());
    assert!(episode.ends().is_some() && episode.ends().is_none());
    assert!(episode.begins());
}

#[test]
fn the_page_is_on_the_endpoints_host() {
    let at = |endpoint: &str| match endpoint.parse::<SocketAddr>() {
        Ok(tcp) => address(&EndpointAddress::Tcp(tcp), 9001).to_string(),
        Err(_) => address(&EndpointAddress::Unix(endpoint.into()), 9001).to_string(),
    };
    assert_eq!(at("10.0.0.7:9000"), "10.0.0.7:9001");
    assert_eq!(at("[fd00::7]:9000"), "[fd00::7]:9001");
    assert_eq!(at("/run/php.sock"), "127.0.0.1:9001");
}

#[test]
fn a_period_is_a_tenth_longer_or_shorter() {
    let periods: Vec<_> = (0..100).map(|_| jittered(PERIOD).as_secs_f64()).collect();
    assert!(periods.iter().all(|period| (0.9..=1.1).contains(period)), "{periods:?}");
    assert!(periods.iter().any(|period| *period < 1.0) && periods.iter().any(|period| *period > 1.0));
}
