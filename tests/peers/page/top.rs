//! `fcgimux top`.

use std::process::{Command, Output};

use super::{LIMIT, SECOND};
use crate::support::{Fcgimux, Folder, Load, Nginx, PhpFpm, Port, Request, bounded, wait_until};

fn top(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_fcgimux")).arg("top").args(arguments).output().expect("the program runs")
}

#[test]
fn one_frame_says_what_the_metrics_say() {
    bounded(LIMIT, || {
        let php = PhpFpm::pool(2).start();
        let mux = Fcgimux::to(php.address()).pool("connections: {per_endpoint: 2}").start();
        let nginx = Nginx::site(&php.scripts(), mux.socket()).start();
        Load::on(nginx.address(), |_| Request::echo("GET", 10)).clients(2).count(50).run().assert_clean();
        let slow = Load::on(nginx.address(), |_| Request::echo("GET", 10).micros(3_000_000));
        let slow = slow.clients(5).count(5).start();
        wait_until("three wait", || mux.metrics().sum("fcgimux_queue_depth", &[]) == 3.0);
        // The document may be a second old.
        std::thread::sleep(SECOND);
        let output = top(&["--admin", &mux.admin().to_string(), "--once"]);
        let metrics = mux.metrics();
        assert_eq!(output.status.code(), Some(0));
        let text = String::from_utf8(output.stdout).expect("UTF-8");
        assert!(!text.contains('\u{1b}'), "{text}");
        assert!(text.contains("▲ default  Saturated for "), "{text}");
        assert!(text.contains("3 wait, oldest "), "{text}");
        assert!(text.contains(&format!("queue 3/{}", metrics.sum("fcgimux_queue_limit", &[]))), "{text}");
        let limit = metrics.sum("fcgimux_upstream_connections_limit", &[]);
        let leased = metrics.sum("fcgimux_upstream_connections", &[("state", "leased")]);
        assert!(text.contains(&format!("in use {leased}/{limit}")), "{text}");
        let line = text.lines().find(|line| line.trim_start().starts_with(&php.address())).expect("its endpoint");
        assert!(line.contains("  LL  ") && line.contains(" 2/2 "), "{line}");
        slow.finish().assert_clean();
    });
}

#[test]
fn without_an_admin_server_it_says_so_and_ends() {
    let port = Port::free();
    let output = top(&["--admin", &port.address().to_string()]);
    assert_eq!(output.status.code(), Some(69));
    let said = String::from_utf8(output.stderr).expect("UTF-8");
    assert!(said.starts_with(&format!("fcgimux: no admin server at {}: ", port.address())), "{said}");
    assert_eq!(top(&["--admin", "nonsense"]).status.code(), Some(69));
    for wrong in [&["--interval", "0s"][..], &["--interval", "1"], &["--interval", "2h"], &["more"]] {
        assert_eq!(top(wrong).status.code(), Some(64), "{wrong:?}");
    }
}

#[test]
fn in_a_terminal_it_draws_until_q_and_puts_everything_back() {
    bounded(LIMIT, || {
        let mux = Fcgimux::to("127.0.0.1:1").start();
        let folder = Folder::new();
        let script = format!(
            "trap : INT\nstty rows 20 cols 100\nbefore=$(stty -g)\n{} top --admin {}\necho \"code $?\"\n[ \"$before\" = \"$(stty -g)\" ] \
             && echo same\n",
            env!("CARGO_BIN_EXE_fcgimux"),
            mux.admin()
        );
        let script = folder.write("top.sh", &script);
        for (key, color) in [("q", true), ("\\003", false)] {
            let no_color = if color { "" } else { "1" };
            // script(1) gives it a terminal; the key comes when it has drawn more than once.
            let line =
                format!("(sleep 2.5; printf '{key}'; sleep 1) | script -qec 'sh {}' /dev/null", script.display());
            let output = Command::new("sh").args(["-c", &line]).env("NO_COLOR", no_color).env("TERM", "xterm").output();
            let text = String::from_utf8_lossy(&output.expect("sh").stdout).into_owned();
            let (drawn, after) = text.split_once("\u{1b}[?1049l").unwrap_or_else(|| panic!("{text:?}"));
            assert!(after.contains("code 0") && after.contains("same"), "{after:?}");
            assert!(drawn.contains("\u{1b}[?1049h") && drawn.contains("default"), "{drawn:?}");
            assert!(drawn.matches("\u{1b}[H").count() >= 2, "drawn more than once: {drawn:?}");
            assert_eq!(drawn.contains("\u{1b}[1m"), color, "{drawn:?}");
        }
    });
}
