//! Whoever reads the log may stop to do so: a collector that hangs, a terminal that is held.

use std::{
    fs::File,
    io::{BufRead, BufReader},
};

use nix::{sys::stat::Mode, unistd::mkfifo};

use super::*;
use crate::support::{Folder, bounded};

const YAML: &str = "listeners:\n  - {socket: \"{socket}\", mode: \"0666\"}\npools:\n  default:\n    endpoints: [{address: \
                    \"{php}\"}]\nadmin: {listen: \"{admin}\"}\nlog: {access: on}\n";

#[test]
fn requests_do_not_wait_for_a_reader_who_has_stopped_and_he_is_told_what_he_missed() {
    bounded(LIMIT, || {
        let (php, folder) = (PhpFpm::pool(1).start(), Folder::new());
        let pipe = folder.join("log");
        mkfifo(&pipe, Mode::S_IRWXU).expect("mkfifo");
        // It is open for reading, and nobody reads.
        let reader = File::options().read(true).write(true).open(&pipe).expect("open the pipe");
        let into_pipe = format!("exec \"$@\" 2>{}", pipe.display());
        let mux = Fcgimux::behind(&["sh", "-c", &into_pipe, "sh"], &YAML.replace("{php}", &php.address().to_string()));
        // Lines of more than 1 KB, as long as they get: a pipe holds some fifty of them, and fcgimux keeps some eight hundred more.
        let call = Call::get(&format!("/{}", "x".repeat(4000))).last();
        let most: u64 = 1_600;
        for _ in 0..most {
            assert_eq!(mux.call(&call, SOON).whole().http_status(), 404);
        }
        assert_eq!(mux.metrics().sum("fcgimux_requests_total", &[("outcome", "ok")]), most as f64);

        let (mut kept, mut lost) = (0, 0);
        let mut lines = BufReader::new(reader).lines();
        let mut next = || serde_json::from_str::<Value>(&lines.next().unwrap().unwrap()).expect("a whole line");
        while lost == 0 {
            let line = next();
            kept += u64::from(line["message"] == "request");
            lost = line["lines"].as_u64().unwrap_or(0);
        }
        // Some may have been about workers that were free late.
        assert!(kept >= 200 && kept < most && kept + lost >= most, "{kept} and {lost}");
        mux.call(&echo(&php), SOON);
        assert!((0..10).any(|_| next()["status"] == 200), "it is as before");
    });
}
