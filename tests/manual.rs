//! The documentation says what is so: settings, flags, refusals and metrics are the same list there and in the program, and
//! every link leads somewhere.

use std::{
    collections::BTreeSet,
    fs,
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command},
    time::Duration,
};

use fcgimux::{
    config::{Config, KEYS},
    mux::{
        failure::{Failure, Kind, Origin, Phase},
        label::{Outcome, Refusal},
    },
    wire::ProtocolStatus,
};
use serde_yaml::Value;

/// Every key that may be written, over two pools of different kinds.
const EVERYTHING: &str = r#"
listeners:
  - {socket: /run/a.sock, mode: "0600", group: www-data, pool: php, max_connections: 7, max_requests_in_flight: 9,
     timeouts: {read: 1s, write: 1s}}
  - {tcp: "127.0.0.1:9001", pool: app}
pools:
  php:
    endpoints: [{dns: "php:9000", weight: 2, zone: a}, {srv: _fastcgi._tcp.php}, {service: shop/php, port: fastcgi},
      {address: "10.0.0.7:9000"}, {socket: /run/php.sock}, {file: /etc/endpoints.yaml}]
    params: {set: {TOKEN: one}}
  app: {application: generic, endpoints: [{address: "10.0.0.8:9000"}]}
zone: a
"#;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// A name, and what is said of it.
type Entry = (String, String);

/// The sections under headings of the third level that are a word of code, with that word: ``### `log.level` ``.
fn entries(text: &str) -> Vec<Entry> {
    let sections = text.split("\n### ").skip(1);
    let entry = |section: &str| {
        let (heading, text) = section.split_once('\n')?;
        let word = heading.trim().strip_prefix('`')?.strip_suffix('`')?;
        // Up to the next part of the manual.
        Some((word.to_owned(), text.split("\n## ").next()?.to_owned()))
    };
    sections.filter_map(entry).collect()
}

/// Of `docs/settings.md`: settings, and flags.
fn manual() -> (Vec<Entry>, Vec<Entry>) {
    entries(&read("docs/settings.md")).into_iter().partition(|(name, _)| !name.starts_with("--"))
}

#[track_caller]
fn assert_same<T: AsRef<str>>(left: (&str, &[T]), right: (&str, &[T])) {
    let set = |names: &[T]| names.iter().map(|name| name.as_ref().to_owned()).collect::<BTreeSet<_>>();
    let (these, those) = (set(left.1), set(right.1));
    assert_eq!(these.len(), left.1.len(), "{} names one twice: {:?}", left.0, left.1.len());
    let missing: Vec<_> = those.difference(&these).collect();
    assert!(missing.is_empty(), "{} has {missing:?}, and {} has not", right.0, left.0);
    let missing: Vec<_> = these.difference(&those).collect();
    assert!(missing.is_empty(), "{} has {missing:?}, and {} has not", left.0, right.0);
}

fn known_keys() -> Vec<String> {
    KEYS.iter().map(|key| key.path.to_owned()).collect()
}

#[test]
fn the_manual_explains_every_setting_and_no_other() {
    let (settings, _) = manual();
    let names: Vec<String> = settings.iter().map(|(name, _)| name.clone()).collect();
    assert_same(("docs/settings.md", &names), ("the table of keys", &known_keys()));
}

/// `check` writes out the structs that a file becomes: what it does not show is set nowhere.
#[test]
fn the_effective_configuration_shows_every_setting_and_no_other() {
    let config = Config::from_yaml(EVERYTHING).unwrap_or_else(|violations| panic!("{violations}"));
    let mut shown = BTreeSet::new();
    collect(&serde_yaml::from_str(&config.to_yaml()).expect("YAML"), "", &mut shown);
    let shown: Vec<String> = shown.into_iter().collect();
    assert_same(("the effective configuration", &shown), ("the table of keys", &known_keys()));
}

/// Adds the paths of what is no mapping and no list of mappings, in the words of the table.
fn collect(value: &Value, path: &str, into: &mut BTreeSet<String>) {
    match value {
        Value::Mapping(entries) if KEYS.iter().all(|key| key.path != path) => {
            for (name, value) in entries {
                let name = if path == "pools" { "*" } else { name.as_str().expect("a name") };
                collect(value, format!("{path}.{name}").trim_start_matches('.'), into);
            }
        }
        Value::Sequence(items) if items.iter().any(Value::is_mapping) => {
            items.iter().for_each(|item| collect(item, &format!("{path}[]"), into));
        }
        _ => _ = into.insert(path.to_owned()),
    }
}

#[test]
fn the_manual_names_every_default() {
    let (settings, _) = manual();
    for (name, text) in settings {
        let line = text.lines().find(|line| line.starts_with("Default: "));
        let line = line.unwrap_or_else(|| panic!("{name}: no line that begins with `Default: `"));
        let key = KEYS.iter().find(|key| key.path == name).unwrap_or_else(|| panic!("{name} is no key"));
        let wanted = match key.default {
            Some(default) => format!("Default: `{default}`"),
            None => "Default: none".to_owned(),
        };
        assert!(line.starts_with(&wanted), "{name}: `{line}` does not begin with `{wanted}`");
    }
}

/// A configuration in which this key has this value.
fn with(key: &str, value: &str, text: &str) -> String {
    let kind = if text.contains("generic only") { "generic" } else { "php-fpm" };
    let pool = |endpoint: &str, rest: &str| {
        format!("pools: {{p: {{application: {kind}, endpoints: [{{address: \"10.0.0.7:9000\"{endpoint}}}]{rest}}}}}\n")
    };
    let nested = |path: &str| match path.split_once('.') {
        Some((section, name)) => format!("{section}: {{{name}: {value}}}"),
        None => format!("{path}: {value}"),
    };
    if let Some(path) = key.strip_prefix("pools.*.endpoints[].") {
        pool(&format!(", {}", nested(path)), "")
    } else if let Some(path) = key.strip_prefix("pools.*.") {
        // The two that bound each other.
        let idle = match key {
            "pools.*.connections.idle_timeout" => format!("connections: {{idle_timeout: {value}, surplus_idle: 0s}}"),
            "pools.*.connections.surplus_idle" => format!("connections: {{surplus_idle: {value}, idle_timeout: 1d}}"),
            _ => nested(path),
        };
        pool("", &format!(", {idle}"))
    } else if let Some(path) = key.strip_prefix("listeners[].") {
        format!("listeners: [{{{}}}]\n{}", nested(path), pool("", ""))
    } else {
        format!("{}\n{}", nested(key), pool("", ""))
    }
}

#[test]
fn the_manual_names_the_range_that_is_held() {
    let (settings, _) = manual();
    let mut ranges = 0;
    for (name, text) in settings {
        let Some((_, range)) = text.split_once("Range: ") else { continue };
        let range = range.split(['.', ',', '\n']).next().expect("there is always a first");
        let (low, high) = range.split_once(" to ").unwrap_or_else(|| panic!("{name}: `{range}` is no range"));
        for value in [low, high] {
            let file = with(&name, value, &text);
            Config::from_yaml(&file).unwrap_or_else(|violations| panic!("{name} from {range}: {violations}\n{file}"));
        }
        let unit = high.trim_start_matches(|digit: char| digit.is_ascii_digit());
        let beyond = format!("{}{unit}", if unit.is_empty() { "99999999999999999999" } else { "9999999" });
        let said = Config::from_yaml(&with(&name, &beyond, &text)).expect_err(&name).to_string();
        let wanted = if unit == "%" { "100%".to_owned() } else { format!("write {range}") };
        assert!(said.contains(&wanted), "{name}: {range}, and the program says: {said}");
        let may_be_off = Config::from_yaml(&with(&name, "off", &text)).is_ok();
        let says_off = text.contains(&format!("Range: {range}, or `off`."));
        assert_eq!(may_be_off, says_off, "{name}: off");
        ranges += 1;
    }
    assert!(ranges > 30, "only {ranges} settings have a range");
}

#[test]
fn the_manual_explains_every_flag_and_no_other() {
    let output = Command::new(env!("CARGO_BIN_EXE_fcgimux")).arg("--help").env("NO_COLOR", "1").output();
    let help = String::from_utf8(output.expect("the program is built with its tests").stdout).expect("UTF-8");
    let flag = |line: &str| {
        let words = line.trim_start().strip_prefix('-')?;
        // `-h, --help`
        let long = words.strip_prefix('-').or_else(|| Some(words.split_once("--")?.1))?;
        Some(format!("--{}", long.split(|end: char| end != '-' && !end.is_ascii_alphanumeric()).next()?))
    };
    let flags: Vec<String> = help.lines().filter_map(flag).collect();
    assert!(flags.len() > 5, "{help}");
    let (_, explained) = manual();
    let explained: Vec<String> = explained.into_iter().map(|(name, _)| name).collect();
    assert_same(("docs/settings.md", &explained), ("fcgimux --help", &flags));
}

/// The rows of a table whose first column has one word of code, or none where it goes on from the row before.
fn rows(text: &str) -> Vec<Vec<String>> {
    let cells = |line: &str| line.trim_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect();
    text.lines().filter(|line| line.starts_with("| ")).map(cells).collect()
}

#[test]
fn every_refusal_is_explained_with_its_status() {
    let text = read("docs/refusals.md");
    let refused = text.split("\n## ").find(|part| part.starts_with("Refused")).expect("a part on refusals");
    let named: Vec<Vec<String>> = rows(refused).into_iter().filter(|row| row[0].starts_with('`')).collect();
    let labels: Vec<String> = named.iter().map(|row| row[0].trim_matches('`').to_owned()).collect();
    let known: Vec<String> = Refusal::ALL.iter().map(|refusal| refusal.label().to_owned()).collect();
    assert_same(("docs/refusals.md", &labels), ("the program", &known));
    for refusal in Refusal::ALL {
        let row = named.iter().find(|row| row[0].trim_matches('`') == refusal.label()).expect("it is there");
        assert_eq!(row[1], refusal.status().code().to_string(), "{row:?}");
        assert!(row.len() == 4 && row[2].starts_with('`') && !row[3].is_empty(), "words and cure: {row:?}");
    }
}

#[test]
fn every_failure_is_explained_by_its_words_with_status_and_outcome() {
    let text = read("docs/refusals.md");
    let failed = text.split("\n## ").find(|part| part.starts_with("Failed")).expect("a part on failures");
    let rows = rows(failed);
    let (web, app) = (Origin::WebServer, Origin::Application);
    let words = || "Connection reset by peer (os error 104)".to_owned();
    let mut failures: Vec<(Origin, Kind)> =
        ["first_byte", "between_bytes", "exchange", "prove"].map(|which| (app, Kind::Timeout(which))).to_vec();
    failures.extend([
        (app, Kind::Closed),
        (app, Kind::Broken(words())),
        (app, Kind::Lost(words())),
        (app, Kind::Silent(Duration::from_secs(1))),
        (app, Kind::Unanswered(Duration::from_secs(1))),
        (app, Kind::Protocol("record of version 72".into())),
        (app, Kind::Stalled),
        (app, Kind::Rejected(ProtocolStatus::Overloaded)),
        (app, Kind::Rejected(ProtocolStatus::CantMpxConn)),
        (web, Kind::Closed),
        (web, Kind::Aborted),
        (web, Kind::Stalled),
        (web, Kind::Timeout("write")),
    ]);
    for (origin, kind) in failures {
        let failure = Failure { origin, kind, phase: Phase::Sent, position: String::new() };
        let said = failure.to_string();
        let said = said.split("; the request").next().expect("there is always a first");
        let explains = |row: &&Vec<String>| {
            let mut examples = row[2].split('`').skip(1).step_by(2);
            examples.any(|words| {
                let words = words.split("; the request").next().unwrap_or(words);
                said.starts_with(
                    words.trim_end_matches("; ...").trim_end_matches(" ...").trim_end_matches("...").trim_end(),
                )
            })
        };
        let row = rows.iter().find(explains).unwrap_or_else(|| panic!("docs/refusals.md says nothing of `{said}`"));
        assert_eq!(row[1], format!("`{}`", failure.outcome().label()), "{said}");
        if let Some(status) = failure.status() {
            let cut = failure.kind == Kind::Timeout("between_bytes");
            assert!(row[0].contains(&status.code().to_string()) || cut, "{said}: {row:?}");
        }
    }
    for outcome in [Outcome::Broken, Outcome::Timeout, Outcome::Gone] {
        assert!(rows.iter().any(|row| row[1].contains(outcome.label())), "{outcome:?}");
    }
}

/// Every text that an operator reads.
fn documents() -> Vec<PathBuf> {
    let entries = fs::read_dir(root().join("docs")).expect("docs").map(|entry| entry.expect("an entry").path());
    let mut found: Vec<PathBuf> = entries.filter(|path| path.extension().is_some_and(|end| end == "md")).collect();
    found.push(root().join("README.md"));
    found.sort();
    found
}

#[test]
fn every_example_in_a_document_is_a_configuration() {
    let sections: BTreeSet<&str> = KEYS.iter().filter_map(|key| key.path.split(['.', '[']).next()).collect();
    let mut examples = 0;
    for path in documents() {
        let text = fs::read_to_string(&path).expect("a document");
        for example in text.split("```yaml\n").skip(1).filter_map(|rest| rest.split("```").next()) {
            let first = example.lines().find(|line| !line.is_empty() && !line.starts_with('#')).unwrap_or_default();
            if !first.split_once(':').is_some_and(|(name, _)| sections.contains(name)) {
                continue; // not of fcgimux
            }
            let rest = if example.contains("pools:") { "" } else { "pools: {p: {endpoints: [{dns: \"php:9000\"}]}}\n" };
            let read = Config::from_yaml(&format!("{example}{rest}"));
            read.unwrap_or_else(|violations| panic!("{}: {violations}\n{example}", path.display()));
            examples += 1;
        }
    }
    assert!(examples >= 8, "only {examples} examples");
}

/// A running program, ended with the test.
struct Program(Child);

impl Drop for Program {
    fn drop(&mut self) {
        // It may have ended by itself.
        _ = self.0.kill();
        _ = self.0.wait();
    }
}

/// What a program that has just been started gives at `/metrics`. `None`: somebody else had the port meanwhile.
fn scrape(folder: &Path) -> Option<String> {
    let address = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a free port");
    let mut command = Command::new(env!("CARGO_BIN_EXE_fcgimux"));
    command.args(["--upstream", "localhost:1", "--admin", &address.to_string(), "--log-level", "error", "--listen"]);
    let mut program = Program(command.arg(folder.join("socket")).spawn().expect("the program is built with its tests"));
    // For ten seconds.
    for _ in 0..1_000 {
        if program.0.try_wait().expect("it is our child").is_some() {
            return None;
        }
        let Ok(mut stream) = TcpStream::connect(address) else {
            std::thread::sleep(Duration::from_millis(10));
            continue;
        };
        stream.set_read_timeout(Some(Duration::from_secs(10))).expect("a timeout");
        stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").expect("a request");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("an answer");
        return Some(answer);
    }
    None
}

/// That all of the list is in what is rendered, and in the documentation, is held where the metrics are defined.
#[test]
fn every_metric_of_a_scrape_is_explained() {
    let folder = tempfile::tempdir().expect("a folder");
    let text = (0..5).find_map(|_| scrape(folder.path())).expect("a scrape");
    let metrics = read("docs/metrics.md");
    let types = text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next());
    let names: Vec<&str> = types.collect();
    assert!(names.len() > 30, "{text}");
    for name in names {
        assert!(metrics.contains(&format!("| `{name}` |")), "{name} is not in docs/metrics.md");
    }
}

#[test]
fn no_document_names_a_metric_that_does_not_exist() {
    let metrics = read("docs/metrics.md");
    for path in documents() {
        let text = fs::read_to_string(&path).expect("a document");
        let is_part = |letter: char| letter.is_ascii_alphanumeric() || letter == '_';
        for (at, _) in text.match_indices("fcgimux_") {
            if text[..at].ends_with(is_part) {
                continue;
            }
            let name: String = text[at..].chars().take_while(|letter| is_part(*letter)).collect();
            let base = ["_bucket", "_sum", "_count"].into_iter().find_map(|end| name.strip_suffix(end));
            let known = |name: &str| metrics.contains(&format!("| `{name}` |"));
            assert!(known(&name) || base.is_some_and(known), "{}: {name} is not in docs/metrics.md", path.display());
        }
    }
}

#[test]
fn every_link_between_documents_leads_somewhere() {
    for path in documents() {
        let text = fs::read_to_string(&path).expect("a document");
        for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            if link.contains("://") {
                continue;
            }
            let (file, anchor) = link.split_once('#').unwrap_or((link, ""));
            let target = if file.is_empty() { path.clone() } else { path.parent().expect("a folder").join(file) };
            assert!(target.exists(), "{}: {link} leads nowhere", path.display());
            if !anchor.is_empty() {
                let there = fs::read_to_string(&target).expect("a document");
                let found = there.lines().filter_map(heading).any(|heading| heading == anchor);
                assert!(found, "{}: {link} leads to no heading", path.display());
            }
        }
    }
}

/// What a heading is linked as.
fn heading(line: &str) -> Option<String> {
    let text = line.strip_prefix('#')?.trim_start_matches('#').strip_prefix(' ')?.trim().to_lowercase();
    let kept = text.chars().filter(|letter| letter.is_alphanumeric() || " -_".contains(*letter));
    Some(kept.map(|letter| if letter == ' ' { '-' } else { letter }).collect())
}

#[test]
fn the_index_names_every_document() {
    let index = read("docs/README.md");
    for path in documents() {
        let name = path.file_name().expect("a name").to_string_lossy().into_owned();
        assert!(name == "README.md" || index.contains(&format!("]({name})")), "docs/README.md does not name {name}");
    }
}
