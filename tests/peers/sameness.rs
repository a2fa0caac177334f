//! As if it were not there: each case is done twice by the same web server with the same configuration, once before php-fpm
//! itself and once before fcgimux before that php-fpm, and what the client saw, what PHP executed and how long it took must be
//! the same, or better.
//!
//! # A case in three lines
//!
//! ```text
//! Case::new("a POST behind auth_request")
//!     .on(nginx().site("location = /p.php { auth_request /auth.php; {php} }"))
//!     .ask(post("/p.php", "a=1"))
//! ```
//!
//! goes into the table that it belongs to (one file each: `breaks`, `handling`, `refusals`, `bodies`, `closing`, `finish`,
//! `defaults`, `smaller`, `normal`).
//!
//! * **Web servers**: `.on(nginx())` once for each, or `.everywhere()`; none for a case of FastCGI itself, which then speaks
//!   records over [`stage::Side::connect`] in `.does(...)`. Lines of configuration and their placeholders: [`site`].
//! * **Scripts**: `.script("name.php", "code behind <?php")`; `env.php` shows all that PHP sees, `die.php` kills its worker,
//!   and each may call `note("words")`, `unbuffered()` and `crash()` ([`scripts`]).
//! * **What the client does**: `.ask(...)`, `.ask_kept(...)`, `.curl(...)`, or `.does(|side| ...)` for anything else.
//! * **What it is meant to show**: `.status(502)`, `.gives(200, Cut)`, `.shows("words")`, `.logs("words")` and `.runs(1)`, which
//!   also hold directly: two sides that fail alike prove nothing. 200 and whole unless said otherwise.
//! * **Another application**: `.before(|_| Application::nobody())` and the others of [`stage::Application`].
//! * **Better than direct**: `.better("words of the documents", 200, Whole)`; the words must stand in README.md or docs/.
//!
//! `FCGIMUX_TEST_CASE="auth_request" cargo test --test peers sameness` runs the cases whose names hold these words.
#![allow(clippy::disallowed_methods, reason = "real peers need real time")]

mod bodies;
mod breaks;
mod browsing;
mod case;
mod client;
mod closing;
mod defaults;
mod finish;
mod handling;
mod normal;
mod refusals;
mod scripts;
mod seen;
mod site;
mod smaller;
mod stage;

/// A test for each table.
macro_rules! tables {
    ($($name:ident: $table:path;)*) => {
        $(
            #[test]
            fn $name() {
                stage::run($table);
            }
        )*

        const TABLES: &[fn() -> Vec<case::Case>] = &[$($table),*];
    };
}

tables! {
    a_response_that_breaks_off_behind_nginx_is_cut_as_directly: breaks::nginx_matrix;
    a_response_that_breaks_off_behind_other_web_servers_is_cut_as_directly: breaks::other_servers;
    a_client_that_sends_again_by_itself_executes_nothing_twice: breaks::clients;
    error_pages_of_web_servers_apply: handling::error_pages;
    failures_look_as_the_web_server_shows_them: handling::plain_failures;
    reasons_are_told_and_web_servers_live_on: handling::reasons;
    stale_caches_and_next_upstreams_apply: handling::next_and_stale;
    timeouts_of_web_servers_govern: handling::timeouts;
    refusals_come_at_once: refusals::at_once;
    subrequests_without_the_body_are_served: bodies::subrequests;
    bodies_that_web_servers_withhold_are_no_fault: bodies::withheld;
    requests_that_are_whole_without_an_end_are_served: bodies::records;
    a_client_that_writes_a_little_more_loses_nothing: closing::a_little_more;
    nobody_waits_for_the_work_behind_another_answer: finish::waits_for_nobody;
    public_configurations_work: defaults::public_configurations;
    rare_records_are_answered: smaller::records;
    rare_ends_are_passed_on: smaller::ends;
    odd_heads_are_judged_by_the_web_server: smaller::odd_heads;
    an_http_server_at_the_address_is_named: smaller::http_in_place_of_fastcgi;
    applications_start_before_the_body: smaller::starts;
    requests_arrive_as_directly: normal::requests;
    responses_arrive_as_directly: normal::responses;
    clients_come_and_go_as_directly: normal::clients;
    what_web_servers_do_with_responses_they_do: normal::own_words;
    uploads_without_a_length_arrive: normal::better;
}

/// Names of cases are how a failure is found again.
#[test]
fn no_two_cases_have_one_name() {
    let mut names: Vec<String> = TABLES.iter().flat_map(|table| table()).flat_map(|case| case.names()).collect();
    assert!(names.len() >= 60, "{} cases", names.len());
    names.sort();
    let twice: Vec<_> = names.windows(2).filter(|two| two[0] == two[1]).map(|two| &two[0]).collect();
    assert!(twice.is_empty(), "{twice:?}");
}

/// Whoever reads the documents learns what is different.
#[test]
fn whatever_is_better_than_direct_is_named_in_the_documents() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let files = ["README.md", "docs/web-servers.md", "docs/refusals.md", "docs/settings.md"];
    let text: String = files.iter().map(|file| std::fs::read_to_string(root.join(file)).expect("a document")).collect();
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    for case in TABLES.iter().flat_map(|table| table()) {
        let Some(better) = &case.better else { continue };
        assert!(text.contains(better.words), "{}: {:?} stands in none of {files:?}", case.name, better.words);
    }
}
