//! Every input that the fuzz targets have been given to keep, once more.

#[path = "fuzz/src/lib.rs"]
#[expect(unreachable_pub, reason = "public in the crate of the fuzz targets")]
mod targets;

use std::{fs, path::Path};

/// The inputs of one target: small ones written by hand, and those that fuzzing found to cover more.
fn replay(name: &str, target: fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/corpus").join(name);
    let mut count = 0;
    for entry in fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display())) {
        let path = entry.unwrap().path();
        let input = fs::read(&path).unwrap();
        // The name stands in front of the panic's message.
        println!("{}", path.display());
        target(&input);
        count += 1;
    }
    assert!(count > 2, "{} is all but empty", folder.display());
}

#[test]
fn the_scanner_reads_any_bytes_the_same_however_they_are_split() {
    replay("scanner", targets::scanner);
}

#[test]
fn pairs_are_read_or_refused_and_a_request_of_them_keeps_the_rules() {
    replay("pairs", targets::pairs);
}

#[test]
fn an_exchange_comes_out_the_same_however_its_bytes_are_split() {
    replay("exchange", targets::exchange);
}

#[test]
fn a_shared_connection_gives_each_its_own_whatever_the_application_writes() {
    replay("channel", targets::channel);
}

#[test]
fn the_pool_keeps_its_rules_in_any_order_of_operations() {
    replay("pool", targets::pool);
}
