//! A share of those that went well, and all others.

use super::*;
use crate::support::bounded;

const GOOD: u64 = 2_000;

/// Runs so many good requests and forty that PHP answers 500, and gives the lines of both kinds.
fn sampled(php: &PhpFpm, access: &str) -> (usize, usize) {
    let mux = Fcgimux::to(php.address()).top(&format!("log: {{access: {access}}}")).start();
    let nginx = Nginx::site(&php.scripts(), mux.socket()).start();
    Load::on(nginx.address(), |_| Request::echo("GET", 10)).clients(4).count(GOOD).run().assert_clean();
    let bad = Load::on(nginx.address(), |_| Request::new("GET", "/fails.php")).clients(2).count(40).run();
    assert_eq!(bad.statuses.get(&500), Some(&40), "{bad}");
    let failed = || exchanges(&mux).iter().filter(|line| line["status"] == 500).count();
    // The last line may be a moment behind its answer.
    _ = eventually(SOON / 10, || failed() >= 40);
    (exchanges(&mux).iter().filter(|line| line["status"] == 200).count(), failed())
}

#[test]
fn a_share_of_the_good_ones_is_drawn_and_every_bad_one_is_there() {
    bounded(LIMIT, || {
        let php = PhpFpm::pool(4).start();
        php.add_script("fails.php", "http_response_code(500); echo 'x';");
        let (good, bad) = sampled(&php, "10%");
        // Of 2,000 one in ten: 200, and 5 standard deviations of 13.4 on either side.
        assert!((133..=267).contains(&good), "{good} of {GOOD}");
        assert_eq!(bad, 40);
        assert_eq!(sampled(&php, "0%"), (0, 40), "only what did not go well");
        assert_eq!(sampled(&php, "off"), (0, 0));
        assert_eq!(sampled(&php, "on"), (GOOD as usize, 40));
    });
}

#[test]
fn a_refusal_is_in_every_sample() {
    bounded(LIMIT, || {
        let php = PhpFpm::pool(1).start();
        let mux = Fcgimux::to(php.address()).pool("params: {deny: [PHP_VALUE]}").top("log: {access: 0%}").start();
        for _ in 0..10 {
            assert_eq!(mux.call(&echo(&php).param("PHP_VALUE", "a=b"), SOON).whole().http_status(), 403);
            assert_eq!(mux.call(&echo(&php), SOON).whole().http_status(), 200);
        }
        assert_eq!(exchange(&mux, 10)["reason"], "param_denied");
    });
}

#[test]
fn the_flag_switches_it_on_and_the_level_does_not_hide_it() {
    bounded(LIMIT, || {
        let php = PhpFpm::pool(1).start();
        let mux = Fcgimux::flags(&["--upstream", &php.address(), "--access-log", "--log-level", "error"]);
        assert_eq!(mux.call(&echo(&php), SOON).whole().http_status(), 200);
        assert_eq!(exchange(&mux, 1)["outcome"], "ok");
        assert_eq!(lines(&mux).len(), 1, "{}", mux.log());
    });
}
