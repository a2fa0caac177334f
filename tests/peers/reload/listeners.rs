//! Listeners that come, change and go.

use std::{fs, os::unix::fs::PermissionsExt, path::PathBuf};

use super::*;
use crate::support::{PhpFpm, Port};

/// Another socket in its folder.
const OTHER: &str = "  - {socket: {folder}/other.sock, mode: \"0600\", pool: php}\n";

fn other(mux: &Fcgimux) -> PathBuf {
    mux.folder().join("other.sock")
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).expect("a socket").permissions().mode() & 0o777
}

fn with(listeners: &str, endpoint: &str) -> String {
    file(listeners, &[pool("php", endpoint, "")], "")
}

#[test]
fn a_listener_is_added_and_removed_while_the_other_goes_on() {
    bounded(LIMIT, || {
        let php = Application::tcp(polite);
        let mux = Fcgimux::yaml(&with("", &php.address()));
        let mut kept = mux.connect();
        assert_served(&mut kept, "before");
        let (fds, mut reloads) = (mux.open_fds(), Reloads::of(&mux));
        let outcome = reloads.now(&mux, &with(OTHER, &php.address()));
        assert_reloaded(&outcome);
        assert_eq!(outcome["listeners_added"], other(&mux).display().to_string(), "{outcome}");
        assert_eq!(mode(&other(&mux)), 0o600);
        assert_served_at(&other(&mux), "at the new one");
        assert_eq!(mux.metrics().sum("fcgimux_downstream_connections_limit", &[]), 20_000.0);
        // One that its web server keeps is closed, with nothing on it.
        let mut of_other = Connection::unix(&other(&mux));
        assert_served(&mut of_other, "kept there");
        let outcome = reloads.now(&mux, &with("", &php.address()));
        assert_eq!(outcome["listeners_removed"], other(&mux).display().to_string(), "{outcome}");
        assert!(!other(&mux).exists(), "its file is left");
        assert!(of_other.ending(SOON) == End::Closed, "its connection is open");
        drop(of_other);
        assert_served(&mut kept, "after");
        assert_served_at(&mux.socket(), "anew");
        assert_eq!(opened(&mux), 1.0);
        assert!(eventually(SOON, || mux.open_fds() <= fds), "{} descriptors, {fds} before", mux.open_fds());
    });
}

#[test]
fn an_exchange_that_runs_at_a_removed_listener_ends_as_if_nothing_had_happened() {
    bounded(LIMIT, || {
        let php = PhpFpm::pool(2).start();
        let mux = Fcgimux::yaml(&with(OTHER, &php.address()));
        let mut slow = Connection::unix(&other(&mux));
        slow.send(&Call::get(&php.script("slow.php")).query("ms=800").bytes());
        assert!(eventually(SOON, || mux.metrics().sum("fcgimux_upstream_connections", &[("state", "leased")]) == 1.0));
        let mut reloads = Reloads::of(&mux);
        assert_reloaded(&reloads.now(&mux, &with("", &php.address())));
        assert!(!other(&mux).exists(), "its file is left");
        let reply = slow.reply(SOON).whole();
        assert_eq!(reply.http_status(), 200);
        assert!(slow.ending(SOON) == End::Closed, "its connection is open");
    });
}

#[test]
fn a_changed_listener_has_its_new_settings_without_being_bound_again() {
    bounded(LIMIT, || {
        let php = Application::tcp(polite);
        let mux = Fcgimux::yaml(&with(OTHER, &php.address()));
        let inode = || std::os::unix::fs::MetadataExt::ino(&fs::metadata(other(&mux)).expect("a socket"));
        let (before, mut reloads) = (inode(), Reloads::of(&mux));
        let changed = OTHER.replace("0600\"", "0640\", max_connections: 1, timeouts: {read: 300ms}");
        let outcome = reloads.now(&mux, &with(&changed, &php.address()));
        let name = other(&mux).display().to_string();
        let expected = format!("{name} (mode, max_connections, timeouts.read)");
        assert_eq!(outcome["listeners_changed"], expected, "{outcome}");
        assert_eq!((mode(&other(&mux)), inode()), (0o640, before));
        assert_eq!(mux.metrics().sum("fcgimux_downstream_connections_limit", &[]), 10_001.0);
        // Within the new limit, and one more.
        let mut first = Connection::unix(&other(&mux));
        assert_served(&mut first, "first");
        let second = Connection::unix(&other(&mux)).call(&Call::get("/srv/app.php").last(), SOON).whole();
        assert_eq!(second.http_status(), 503);
        // The new timeout: a request whose end does not come.
        drop(first);
        let mut half = Connection::unix(&other(&mux));
        half.send(&Call::get("/srv/app.php").bytes()[..20]);
        assert!(half.reply(5 * SOON).took < SOON, "the old timeout");
    });
}

#[test]
fn a_listener_goes_over_to_another_pool_and_so_do_connections_that_its_web_server_keeps() {
    bounded(LIMIT, || {
        let (php, next) = (Application::tcp(polite), Application::tcp(polite));
        let pools = [pool("php", php.address(), ""), pool("next", next.address(), "")];
        let mux = Fcgimux::yaml(&file("", &pools, ""));
        let mut kept = mux.connect();
        assert_served(&mut kept, "before");
        let mut reloads = Reloads::of(&mux);
        let text = file("", &pools, "").replace("pool: php}", "pool: next}");
        let outcome = reloads.now(&mux, &text);
        let name = mux.socket().display().to_string();
        assert_eq!(outcome["listeners_changed"], format!("{name} (pool)"), "{outcome}");
        assert_served(&mut kept, "after");
        assert_served_at(&mux.socket(), "anew");
        assert_eq!((requests(&mux, "php"), requests(&mux, "next")), (1.0, 2.0));
        assert_eq!((php.accepted(), next.accepted()), (1, 1));
    });
}

#[test]
fn a_listener_that_cannot_be_bound_refuses_the_whole_configuration() {
    bounded(LIMIT, || {
        let (php, port) = (Application::tcp(polite), Port::free());
        let mux = Fcgimux::yaml(&with(OTHER, &php.address()));
        let taken = std::net::TcpListener::bind(port.address()).expect("bind");
        let mut reloads = Reloads::of(&mux);
        // One that can be bound comes first, another is to change, and so is the pool.
        let listeners = format!(
            "{}  - {{socket: {{folder}}/third.sock, pool: php}}\n  - {{tcp: \"{}\", pool: php}}\n",
            OTHER.replace("0600", "0644"),
            port.address()
        );
        let text = file(&listeners, &[pool("php", php.address(), ", queue: {depth: 77}")], "");
        let outcome = reloads.now(&mux, &text);
        let said = format!("configuration refused: cannot listen on {}: ", port.address());
        assert!(message(&outcome).starts_with(&said), "{outcome}");
        assert!(!mux.folder().join("third.sock").exists(), "the socket before it is left");
        assert_eq!(mode(&other(&mux)), 0o600);
        assert_eq!(mux.metrics().sum("fcgimux_queue_limit", &[]), 1024.0);
        assert_eq!(mux.metrics().sum("fcgimux_config_reload_success", &[]), 0.0);
        assert_served_at(&mux.socket(), "served on");
        drop(taken);
        assert_reloaded(&reloads.now(&mux, &text));
        assert_eq!(mode(&other(&mux)), 0o644);
        assert_served_at(&mux.folder().join("third.sock"), "at the third");
        assert!(std::net::TcpStream::connect(port.address()).is_ok());
    });
}

#[test]
fn a_socket_file_that_somebody_else_has_replaced_is_neither_changed_nor_removed() {
    bounded(LIMIT, || {
        let php = Application::tcp(polite);
        let mux = Fcgimux::yaml(&with(OTHER, &php.address()));
        fs::remove_file(other(&mux)).expect("its file");
        let theirs = std::os::unix::net::UnixListener::bind(other(&mux)).expect("bind");
        let before = mode(&other(&mux));
        let mut reloads = Reloads::of(&mux);
        let outcome = reloads.now(&mux, &with(&OTHER.replace("0600", "0640"), &php.address()));
        assert!(message(&outcome).contains("has been removed or replaced"), "{outcome}");
        assert_eq!(mode(&other(&mux)), before);
        assert_reloaded(&reloads.now(&mux, &with("", &php.address())));
        assert!(other(&mux).exists(), "it was not ours");
        drop(theirs);
    });
}
