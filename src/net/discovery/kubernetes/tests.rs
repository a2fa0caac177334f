//! The source against an API server with the real protocol.

#![allow(clippy::disallowed_methods, reason = "an API server needs the real clock")]

#[allow(dead_code, unused_imports, unreachable_pub, reason = "shared with the tests of the whole program")]
#[path = "../../../../tests/support/kubernetes/mod.rs"]
mod kubernetes;
#[allow(dead_code, unreachable_pub, reason = "as above")]
#[path = "../../../../tests/support/port.rs"]
mod port;

use super::*;
use crate::{config::Config, metrics::Metrics, mux::pool::Member, net::discovery::sink::Sinks};
use kubernetes::{KubeApi, Slice, Verb};
use port::Port;
use std::{
    io,
    path::Path,
    sync::{Arc, Mutex},
    thread,
};
use tokio::{sync::mpsc, task::JoinHandle};
use tracing::subscriber::DefaultGuard;

/// A source at work.
struct Watching {
    lists: mpsc::Receiver<Vec<Member>>,
    sinks: Arc<Sinks>,
    log: Log,
    task: JoinHandle<()>,
    _logging: DefaultGuard,
}

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

/// Short, so that the tests are.
fn patience() -> Patience {
    let ms = Duration::from_millis;
    Patience { answer: ms(1000), silence: ms(1500), doubt: ms(400), settle: ms(20), pause: (ms(20), ms(200)) }
}

fn source(api: &KubeApi) -> Service {
    let mut service = Service::new(Some("shop".to_owned()), "php".to_owned(), None, 1, None);
    service.way = Some(kube::Config::new(api.url().parse().unwrap()));
    service.patience = patience();
    service
}

fn start(service: Service) -> Watching {
    let (told, lists) = mpsc::channel(1000);
    let sinks = Sinks::new("default", None, 1, vec![], move |members| told.try_send(members).unwrap());
    let yaml = "listeners: [{socket: /s}]\npools: {default: {endpoints: [{address: '127.0.0.1:1'}]}}\n";
    let config = Config::from_content(yaml.as_bytes(), Path::new("test.yaml")).unwrap();
    let sink = sinks.sink(0, "service shop/php".to_owned(), Metrics::new(&config).pool("default").discovery("s"));
    let log = Log::default();
    let writer = log.clone();
    // As the program's own log, without what the client library says.
    let own = tracing_subscriber::EnvFilter::new(concat!("off,", env!("CARGO_PKG_NAME"), "=info"));
    let subscriber =
        tracing_subscriber::fmt().with_writer(move || writer.clone()).with_ansi(false).with_env_filter(own).finish();
    let logging = tracing::subscriber::set_default(subscriber);
    Watching { lists, sinks, log, task: tokio::spawn(service.watch(sink)), _logging: logging }
}

impl Watching {
    /// The next list, `-` for those that leave.
    async fn next(&mut self) -> Vec<String> {
        let members = timeout(Duration::from_secs(10), self.lists.recv()).await.expect("a list in time").unwrap();
        members.iter().map(|member| format!("{}{}", if member.leaving { "-" } else { "" }, member.address)).collect()
    }

    async fn nothing_for(&mut self, quiet: Duration) {
        assert!(timeout(quiet, self.lists.recv()).await.is_err(), "told without need");
        assert!(!self.task.is_finished());
    }

    /// Waits until the log says it, and answers what it says from `since` on.
    async fn says(&self, words: &str) -> String {
        self.until(&format!("the log says '{words}'"), || self.log.text().contains(words)).await;
        self.log.text()
    }

    async fn until(&self, what: &str, mut holds: impl FnMut() -> bool) {
        for _ in 0..1000 {
            if holds() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("waited in vain until {what}; the log:\n{}", self.log.text());
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Log {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }

    /// How often it says that discovery has failed, and that it works again.
    fn turns(&self) -> (usize, usize) {
        let count = |words: &str| self.text().matches(words).count();
        (count("discovery has failed"), count("discovery works again"))
    }
}

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn slice(name: &str) -> Slice {
    Slice::of("shop/php", name).port("fastcgi", 9000)
}

/// A server with one slice of one pod, and a source that has found it and watches.
async fn settled() -> (KubeApi, Watching) {
    let api = KubeApi::start();
    api.apply(slice("a").ready("10.0.0.1"));
    let mut watching = start(source(&api));
    assert_eq!(watching.next().await, ["10.0.0.1:9000"]);
    watching.until("it watches", || api.watches() > 0).await;
    (api, watching)
}

#[tokio::test]
async fn pods_come_become_ready_end_and_go() {
    let (api, mut watching) = settled().await;
    api.apply(slice("a").ready("10.0.0.1").unready("10.0.0.2"));
    watching.nothing_for(Duration::from_millis(100)).await;
    api.apply(slice("a").ready("10.0.0.1").ready("10.0.0.2"));
    assert_eq!(watching.next().await, ["10.0.0.1:9000", "10.0.0.2:9000"]);
    api.apply(slice("b").ready("10.0.0.3"));
    assert_eq!(watching.next().await, ["10.0.0.1:9000", "10.0.0.2:9000", "10.0.0.3:9000"]);
    api.apply(slice("a").terminating("10.0.0.1").ready("10.0.0.2"));
    assert_eq!(watching.next().await, ["-10.0.0.1:9000", "10.0.0.2:9000", "10.0.0.3:9000"]);
    api.apply(slice("a").ready("10.0.0.2"));
    assert_eq!(watching.next().await, ["10.0.0.2:9000", "10.0.0.3:9000"]);
    api.delete("shop/b");
    assert_eq!(watching.next().await, ["10.0.0.2:9000"]);
    api.delete("shop/a");
    assert_eq!(watching.next().await, [""; 0]);
    watching.says("it has no EndpointSlices").await;
    assert_eq!((api.count(Verb::List), api.count(Verb::Watch)), (1, 1));
    assert_eq!(watching.log.turns(), (0, 0));
}

#[tokio::test]
async fn other_services_and_other_namespaces_are_none_of_its_business() {
    let api = KubeApi::start();
    let others = |last: u8| {
        api.apply(Slice::of("shop/web", "web").port("http", 80).ready(&format!("10.0.1.{last}")));
        api.apply(Slice::of("blog/php", "a").port("fastcgi", 9000).ready(&format!("10.0.2.{last}")));
    };
    others(1);
    api.apply(slice("a").ready("10.0.0.1"));
    let mut watching = start(source(&api));
    assert_eq!(watching.next().await, ["10.0.0.1:9000"]);
    watching.until("it watches", || api.watches() > 0).await;
    others(2);
    // A slice that is given to another Service is gone for this one.
    api.apply(Slice::of("shop/web", "a").port("fastcgi", 9000).ready("10.0.0.1"));
    assert_eq!(watching.next().await, [""; 0]);
    assert!(api.asked().iter().all(|asked| asked.namespace == "shop"));
}

#[tokio::test]
async fn quiet_costs_nothing_and_bookmarks_are_no_change() {
    let (api, mut watching) = settled().await;
    watching.nothing_for(Duration::from_millis(2000)).await;
    assert_eq!((api.count(Verb::List), api.count(Verb::Watch)), (1, 1));
    // Without them the watch begins anew now and then, since it may be dead.
    api.bookmarks_every(Duration::from_secs(60));
    watching.until("it watches again", || api.count(Verb::Watch) > 1).await;
    watching.nothing_for(Duration::from_millis(10)).await;
    assert_eq!(api.count(Verb::List), 1);
    assert_eq!(watching.log.text(), "");
}

#[tokio::test]
async fn a_watch_that_is_over_goes_on_where_it_was_without_a_list() {
    let (api, mut watching) = settled().await;
    api.advance();
    let version = |api: &KubeApi| api.asked().last().unwrap().version.parse::<u64>().unwrap();
    let before = version(&api);
    // A bookmark brings the version of what nobody here sees.
    tokio::time::sleep(Duration::from_millis(500)).await;
    api.end_watches();
    watching.until("it watches again", || api.count(Verb::Watch) > 1).await;
    assert_eq!((api.count(Verb::List), version(&api)), (1, before + 1));
    api.apply(slice("a").ready("10.0.0.2"));
    assert_eq!(watching.next().await, ["10.0.0.2:9000"]);
    assert_eq!(watching.log.text(), "");
}

#[tokio::test]
async fn history_that_is_forgotten_is_listed_anew_and_nobody_is_dropped_meanwhile() {
    for as_status in [false, true] {
        let (api, mut watching) = settled().await;
        api.apply(slice("b").ready("10.0.0.2"));
        assert_eq!(watching.next().await, ["10.0.0.1:9000", "10.0.0.2:9000"]);
        if as_status {
            api.gone_as_status();
        }
        // The running watch is told, and one that comes back.
        for _ in 0..2 {
            api.slow_lists(Duration::from_millis(200));
            let lists = api.count(Verb::List);
            api.compact();
            watching.until("it lists anew", || api.count(Verb::List) > lists).await;
            watching.nothing_for(Duration::from_millis(300)).await;
            api.slow_lists(Duration::ZERO);
        }
        api.apply(slice("c").ready("10.0.0.3"));
        assert_eq!(watching.next().await, ["10.0.0.1:9000", "10.0.0.2:9000", "10.0.0.3:9000"]);
        assert_eq!(watching.log.text(), "", "as it must be, and no failure");
    }
}

#[tokio::test]
async fn what_was_found_stays_while_the_server_is_down_and_what_changed_meanwhile_is_seen() {
    let (mut api, mut watching) = settled().await;
    api.stop();
    let words = watching.says("discovery has failed").await;
    assert!(words.contains("refused") && words.contains("cannot ask the API server http://127.0.0.1"), "{words}");
    watching.nothing_for(Duration::from_millis(500)).await;
    api.delete("shop/a");
    api.apply(slice("b").ready("10.0.0.2"));
    api.resume();
    assert_eq!(watching.next().await, ["10.0.0.2:9000"]);
    watching.says("discovery works again").await;
    assert_eq!(watching.log.turns(), (1, 1));
}

#[tokio::test]
async fn a_watch_that_has_begun_is_a_sign_of_life_by_itself() {
    let (mut api, mut watching) = settled().await;
    api.bookmarks_every(Duration::from_secs(60));
    api.stop();
    watching.says("discovery has failed").await;
    api.resume();
    watching.says("discovery works again").await;
    watching.nothing_for(Duration::from_millis(10)).await;
}

#[tokio::test]
async fn a_server_that_is_not_there_at_the_start_is_waited_for() {
    let mut api = KubeApi::start();
    api.stop();
    let mut watching = start(source(&api));
    watching.says("discovery has failed").await;
    watching.nothing_for(Duration::from_millis(100)).await;
    api.apply(slice("a").ready("10.0.0.1"));
    api.resume();
    assert_eq!(watching.next().await, ["10.0.0.1:9000"]);
}

#[tokio::test]
async fn a_connection_that_breaks_even_in_the_middle_of_a_line_loses_no_change() {
    let (api, mut watching) = settled().await;
    api.cut_next_line();
    api.apply(slice("a").ready("10.0.0.2"));
    assert_eq!(watching.next().await, ["10.0.0.2:9000"]);
    api.disconnect();
    api.apply(slice("a").ready("10.0.0.3"));
    assert_eq!(watching.next().await, ["10.0.0.3:9000"]);
    watching.nothing_for(Duration::from_millis(100)).await;
}

#[tokio::test]
async fn a_watch_on_a_dead_connection_is_noticed() {
    let (api, mut watching) = settled().await;
    api.fall_silent();
    api.apply(slice("a").ready("10.0.0.2"));
    let words = watching.says("discovery has failed").await;
    assert!(words.contains("did not answer within 1s when asked to watch"), "{words}");
    watching.nothing_for(Duration::from_millis(100)).await;
    api.speak();
    assert_eq!(watching.next().await, ["10.0.0.2:9000"]);
    watching.says("discovery works again").await;
}

#[tokio::test]
async fn an_endpoint_that_cannot_be_reached_makes_a_quiet_watch_begin_anew() {
    let api = KubeApi::start();
    api.bookmarks_every(Duration::from_secs(60));
    api.apply(slice("a").ready("10.0.0.1"));
    let mut service = source(&api);
    service.patience.silence = Duration::from_secs(60);
    let mut watching = start(service);
    assert_eq!(watching.next().await, ["10.0.0.1:9000"]);
    watching.until("it watches", || api.count(Verb::Watch) == 1).await;
    // Who has just been heard of is believed.
    watching.sinks.nudge();
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(api.count(Verb::Watch), 1);
    watching
        .until("it watches anew", || {
            watching.sinks.nudge();
            api.count(Verb::Watch) > 1
        })
        .await;
    watching.nothing_for(Duration::from_millis(10)).await;
    assert_eq!(api.count(Verb::List), 1);
}

#[tokio::test]
async fn a_server_that_ends_each_watch_at_once_is_not_asked_without_pause() {
    let (api, mut watching) = settled().await;
    api.short_watches();
    api.end_watches();
    tokio::time::sleep(Duration::from_secs(2)).await;
    // Pauses of 20, 40, 80, 160, then 200 ms, half of it at least.
    let watches = api.count(Verb::Watch);
    assert!((8..30).contains(&watches), "{watches}");
    api.apply(slice("a").ready("10.0.0.2"));
    assert_eq!(watching.next().await, ["10.0.0.2:9000"]);
}

#[tokio::test]
async fn missing_rights_are_named_and_taken_up_when_they_come() {
    let api = KubeApi::start();
    api.apply(slice("a").ready("10.0.0.1"));
    api.refuse(Verb::List, 403);
    let mut watching = start(source(&api));
    let words = watching.says("does not let us list endpointslices in the namespace shop").await;
    assert!(words.contains("get, list and watch on endpointslices of discovery.k8s.io"), "{words}");
    api.allow();
    assert_eq!(watching.next().await, ["10.0.0.1:9000"]);
    watching.says("discovery works again").await;
}

#[tokio::test]
async fn who_may_list_but_not_watch_learns_of_changes_all_the_same_and_is_not_said_to_be_well() {
    let api = KubeApi::start();
    api.apply(slice("a").ready("10.0.0.1"));
    api.refuse(Verb::Watch, 403);
    let mut watching = start(source(&api));
    assert_eq!(watching.next().await, ["10.0.0.1:9000"]);
    watching.says("does not let us watch endpointslices").await;
    watching.until("it lists again and again", || api.count(Verb::List) > 4).await;
    watching.nothing_for(Duration::from_millis(10)).await;
    assert_eq!(watching.log.turns(), (1, 0));
    api.apply(slice("a").ready("10.0.0.2"));
    assert_eq!(watching.next().await, ["10.0.0.2:9000"]);
}

#[tokio::test]
async fn a_server_in_trouble_is_asked_again() {
    let (api, mut watching) = settled().await;
    for (turn, (status, words)) in
        [(500, "answers 500"), (503, "answers 503"), (401, "does not know who we are")].into_iter().enumerate()
    {
        let watches = api.watches();
        for verb in [Verb::List, Verb::Watch] {
            api.refuse(verb, status);
        }
        api.disconnect();
        watching.says(words).await;
        api.apply(slice("a").ready(&format!("10.0.1.{}", status % 256)));
        api.allow();
        assert_eq!(watching.next().await, [format!("10.0.1.{}:9000", status % 256)]);
        watching.until("it watches", || api.watches() > watches).await;
        assert_eq!(watching.log.turns(), (turn + 1, turn + 1));
    }
}

#[tokio::test]
async fn a_slow_list_is_waited_for_up_to_a_limit() {
    let api = KubeApi::start();
    api.apply(slice("a").ready("10.0.0.1"));
    api.slow_lists(Duration::from_millis(500));
    let mut watching = start(source(&api));
    assert_eq!(watching.next().await, ["10.0.0.1:9000"]);
    assert_eq!(watching.log.text(), "");
    api.slow_lists(Duration::from_millis(2000));
    api.compact();
    let words = watching.says("did not answer").await;
    assert!(words.contains("within 1s when asked to list"), "{words}");
    watching.nothing_for(Duration::from_millis(10)).await;
}

#[tokio::test]
async fn a_port_that_nobody_has_is_said_with_those_that_there_are_and_what_was_found_stays() {
    let (api, mut watching) = settled().await;
    api.apply(Slice::of("shop/php", "a").port("fastcgi", 9000).port("status", 9001).ready("10.0.0.2"));
    watching.says("have fastcgi (9000), status (9001): say which with `port`").await;
    // Bookmarks are no sign that it is well again.
    watching.nothing_for(Duration::from_millis(500)).await;
    assert_eq!(watching.log.turns(), (1, 0));
    api.apply(slice("a").ready("10.0.0.2"));
    assert_eq!(watching.next().await, ["10.0.0.2:9000"]);
    watching.says("discovery works again").await;
}

#[tokio::test]
async fn many_changes_at_once_are_one_and_a_pod_that_moves_is_never_missing() {
    let api = KubeApi::start();
    api.apply(slice("a").ready("10.0.0.1"));
    let mut service = source(&api);
    service.patience.settle = Duration::from_millis(500);
    let mut watching = start(service);
    assert_eq!(watching.next().await, ["10.0.0.1:9000"]);
    watching.until("it watches", || api.watches() > 0).await;
    for (from, to) in [("a", "b"), ("b", "a")] {
        api.delete(&format!("shop/{from}"));
        tokio::time::sleep(Duration::from_millis(50)).await;
        for n in 2..30 {
            api.apply(slice(to).ready("10.0.0.1").ready(&format!("10.0.0.{n}")));
        }
        assert_eq!(watching.next().await, ["10.0.0.1:9000", "10.0.0.29:9000"]);
        api.apply(slice(to).ready("10.0.0.1"));
        assert_eq!(watching.next().await, ["10.0.0.1:9000"]);
    }
}

#[tokio::test]
async fn the_token_is_read_again_when_it_is_refused() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "old").unwrap();
    let api = KubeApi::start();
    api.apply(slice("a").ready("10.0.0.1"));
    api.require_token("old");
    let mut service = source(&api);
    if let Some(way) = &mut service.way {
        way.auth_info.token_file = Some(file.path().display().to_string());
    }
    let mut watching = start(service);
    assert_eq!(watching.next().await, ["10.0.0.1:9000"]);
    watching.until("it watches", || api.watches() > 0).await;
    api.require_token("new");
    api.disconnect();
    watching.says("the service account's token may be missing or too old").await;
    std::fs::write(file.path(), "new").unwrap();
    watching.says("discovery works again").await;
    assert_eq!(api.asked().last().unwrap().token.as_deref(), Some("new"));
    // Nobody sees it in a log.
    assert!(!watching.log.text().contains("Bearer"));
}

#[tokio::test]
async fn a_source_that_is_dropped_asks_no_more() {
    let (api, watching) = settled().await;
    drop(watching);
    tokio::task::yield_now().await;
    api.disconnect();
    let asked = api.asked().len();
    thread::sleep(Duration::from_millis(100));
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(api.asked().len(), asked);
}
