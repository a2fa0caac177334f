//! Reads `src/` and fails where the code leaves its frame: an import that goes up, a word that a layer must not know, a
//! file or a function that has grown too long, work left undone.
//!
//! It reads tokens, not types: a path counts where it starts with `crate`, `self` or `super`, in groups as well. The
//! samples at the bottom prove that each rule fires.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

/// The layers from the top. A file may name only layers of its own line or of a line below; `config` and `wire` share the
/// bottom and know nothing of each other.
const LAYERS: [(&str, u8); 12] = [
    ("main", 0),
    ("cli", 0),
    ("lib", 1),
    ("run", 1),
    ("reload", 1),
    ("log", 1),
    ("admin", 2),
    ("net", 3),
    ("metrics", 4),
    ("mux", 5),
    ("config", 6),
    ("wire", 6),
];

/// Imports that go down and are refused all the same.
const NOT_EVEN_DOWN: [(&str, &str, &str); 4] = [
    ("admin", "net", "the admin page reads snapshots and metrics; let lib hand it what it needs"),
    ("admin", "wire", "the admin page knows nothing of records"),
    ("config", "wire", "config holds plain values"),
    ("wire", "config", "wire takes its limits as arguments"),
];

/// External crates that a layer must not name.
const NOT_KNOWN: [(&str, &[&str]); 4] = [
    ("wire", &["tokio", "tracing", "metrics"]),
    ("mux", &["tokio", "tracing", "metrics"]),
    ("metrics", &["tokio"]),
    ("config", &["tokio"]),
];

/// The layers without I/O and without a clock of their own.
const PURE: [&str; 2] = ["wire", "mux"];

const FILE_LINES: usize = 600;
const FUNCTION_LINES: usize = 60;

#[derive(Debug, PartialEq, Eq)]
struct Violation {
    file: String,
    line: usize,
    what: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.file, self.line, self.what)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Token<'a> {
    text: &'a str,
    line: usize,
    /// Inside an item under `#[cfg(test)]`.
    in_test: bool,
}

/// One file, as the rules see it.
struct Source<'a> {
    /// From the repository's root: `src/mux/pool.rs`.
    file: &'a str,
    raw: &'a str,
    tokens: Vec<Token<'a>>,
}

impl<'a> Source<'a> {
    /// `code` is `raw` after [`without_text`]; `is_test` says that the whole file belongs to the tests.
    fn new(file: &'a str, raw: &'a str, code: &'a str, is_test: bool) -> Self {
        let mut tokens = tokenize(code);
        mark_tests(&mut tokens);
        for token in &mut tokens {
            token.in_test |= is_test;
        }
        Self { file, raw, tokens }
    }

    /// `src/mux/pool.rs` -> `["mux", "pool"]`, the module that the file is.
    fn module(&self) -> Vec<&'a str> {
        let path = self.file.trim_start_matches("src/").trim_end_matches(".rs");
        let mut parts: Vec<_> = path.split('/').collect();
        if matches!(parts.last(), Some(&"mod" | &"lib" | &"main")) {
            parts.pop();
        }
        parts
    }

    fn layer(&self) -> &'a str {
        let top = self.file.trim_start_matches("src/");
        top.split('/').next().unwrap_or(top).trim_end_matches(".rs")
    }

    fn violation(&self, line: usize, what: impl Into<String>) -> Violation {
        Violation { file: self.file.to_owned(), line, what: what.into() }
    }
}

/// Every rule that one file can break by itself.
fn check(source: &Source<'_>) -> Vec<Violation> {
    let Some(rank) = rank(source.layer()) else {
        let what = format!("`{}` is no known layer; put it into one, or add it to LAYERS on purpose", source.layer());
        return vec![source.violation(1, what)];
    };
    let mut found = imports(source, rank);
    found.extend(unknown_crates(source));
    found.extend(impure(source));
    found.extend(too_long(source));
    found.extend(left_undone(source));
    found.extend(unknown_modules(source));
    found.sort_by_key(|violation| violation.line);
    found
}

fn rank(layer: &str) -> Option<u8> {
    LAYERS.iter().find(|(name, _)| *name == layer).map(|&(_, rank)| rank)
}

fn imports(source: &Source<'_>, rank_here: u8) -> Vec<Violation> {
    let here = source.layer();
    let mut found = Vec::new();
    for (line, path) in own_paths(source) {
        let Some(&first) = path.first() else {
            found.push(source.violation(line, "names the crate itself; write the path of what is meant"));
            continue;
        };
        // What is no layer is an item of the library's root.
        let (to, rank_there) = rank(first).map_or(("lib", 1), |rank| (first, rank));
        let path = path.join("::");
        if to == here {
            continue;
        }
        if let Some((_, _, why)) = NOT_EVEN_DOWN.iter().find(|(from, not, _)| *from == here && *not == to) {
            found.push(source.violation(line, format!("`{here}` must not use `crate::{path}`: {why}")));
        } else if rank_there < rank_here {
            let what =
                format!("`{here}` uses `crate::{path}`, which is above it; move it down, or pass it in as an argument");
            found.push(source.violation(line, what));
        }
    }
    found
}

/// Every path that starts with `crate`, `self` or `super`, from the crate's root, groups taken apart.
fn own_paths<'a>(source: &Source<'a>) -> Vec<(usize, Vec<&'a str>)> {
    let (tokens, mut module) = (&source.tokens, source.module());
    let mut braces: Vec<bool> = Vec::new(); // for each open brace: is it that of an inline module?
    let mut found = Vec::new();
    for (i, token) in tokens.iter().enumerate() {
        let before = |n: usize| i.checked_sub(n).map_or("", |at| tokens[at].text);
        let after = tokens.get(i + 1).map_or("", |token| token.text);
        match token.text {
            "{" => {
                braces.push(before(2) == "mod");
                if before(2) == "mod" {
                    module.push(before(1));
                }
            }
            "}" if braces.pop() == Some(true) => {
                module.pop();
            }
            "crate" if after == "as" => found.push((token.line, Vec::new())),
            "crate" | "self" | "super" if after == "::" && before(1) != "::" => {
                let mut relative = Vec::new();
                expand(tokens, i, &[], &mut relative);
                found.extend(relative.into_iter().map(|(line, path)| (line, absolute(&module, path))));
            }
            _ => {}
        }
    }
    found
}

/// Reads a path or a group at `at`, adds each full path to `found`, and answers where it ends.
fn expand<'a>(
    tokens: &[Token<'a>],
    mut at: usize,
    prefix: &[&'a str],
    found: &mut Vec<(usize, Vec<&'a str>)>,
) -> usize {
    let text = |at: usize| tokens.get(at).map_or("", |token| token.text);
    let line = tokens.get(at).map_or(0, |token| token.line);
    let mut path = prefix.to_vec();
    loop {
        if text(at) == "{" {
            at += 1;
            while !matches!(text(at), "}" | "") {
                at = expand(tokens, at, &path, found);
                while !matches!(text(at), "," | "}" | "") {
                    at += 1; // `as name`
                }
                at += usize::from(text(at) == ",");
            }
            return at + 1;
        }
        path.push(text(at));
        at += 1;
        let goes_on = text(at) == "::" && (is_word(text(at + 1)) || matches!(text(at + 1), "{" | "*"));
        if !goes_on {
            found.push((line, path));
            return at;
        }
        at += 1;
    }
}

fn absolute<'a>(module: &[&'a str], path: Vec<&'a str>) -> Vec<&'a str> {
    let mut from_root = if path.first() == Some(&"crate") { Vec::new() } else { module.to_vec() };
    for part in path {
        match part {
            "crate" | "self" => {}
            "super" => {
                from_root.pop();
            }
            name => from_root.push(name),
        }
    }
    from_root
}

fn unknown_crates(source: &Source<'_>) -> Vec<Violation> {
    let here = source.layer();
    let mut found = Vec::new();
    for (layer, names) in NOT_KNOWN {
        for name in names.iter().filter(|_| layer == here) {
            for line in crate_named(source, name) {
                let what = format!("`{here}` must not know of `{name}`; bring the value in as an argument");
                found.push(source.violation(line, what));
            }
        }
    }
    found
}

/// The lines on which the external crate `name`, or one of its family (`tokio_util`), is named outside tests.
fn crate_named(source: &Source<'_>, name: &str) -> Vec<usize> {
    let tokens = &source.tokens;
    let text = |at: usize| tokens.get(at).map_or("", |token| token.text);
    let before = |i: usize, n: usize| i.checked_sub(n).map_or("", text);
    let named = |i: usize| {
        let family = text(i).strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with('_'));
        // A field or a module of ours may bear the name: only the start of a path is the crate.
        let inside = before(i, 1) == "::" && is_word(before(i, 2)) && before(i, 2) != "use";
        let imported = before(i, 1) == "use" || (before(i, 2), before(i, 1)) == ("extern", "crate");
        family && !inside && (text(i + 1) == "::" || imported)
    };
    (0..tokens.len()).filter(|&i| !tokens[i].in_test && named(i)).map(|i| tokens[i].line).collect()
}

fn impure(source: &Source<'_>) -> Vec<Violation> {
    let mut found = Vec::new();
    if !PURE.contains(&source.layer()) {
        return found;
    }
    for three in source.tokens.windows(3).filter(|three| !three[0].in_test) {
        let what = match [three[0].text, three[1].text, three[2].text] {
            [".", "await", _] | ["async", _, _] => "waits; this layer only decides: let it return a directive",
            ["Instant" | "SystemTime", "::", "now"] | [".", "elapsed", "("] => {
                "reads the clock; take `now` as an argument"
            }
            _ => continue,
        };
        found.push(source.violation(three[0].line, format!("`{}` {what}", source.layer())));
    }
    found
}

fn too_long(source: &Source<'_>) -> Vec<Violation> {
    let mut found = Vec::new();
    let lines = source.raw.lines().count();
    if lines > FILE_LINES {
        let what = format!("the file has {lines} lines, {FILE_LINES} are allowed; one noun a file: move one out");
        found.push(source.violation(lines, what));
    }
    for (name, first, last) in functions(&source.tokens) {
        let lines = last - first + 1;
        if lines > FUNCTION_LINES {
            let what =
                format!("function `{name}` has {lines} lines, {FUNCTION_LINES} are allowed; give a part of it a name");
            found.push(source.violation(first, what));
        }
    }
    found
}

/// Name, first and last line of every function with a body outside tests.
fn functions<'a>(tokens: &[Token<'a>]) -> Vec<(&'a str, usize, usize)> {
    let mut found = Vec::new();
    for (i, two) in tokens.windows(2).enumerate() {
        if two[0].text != "fn" || !is_word(two[1].text) || two[0].in_test {
            continue;
        }
        let end = end_of_item(tokens, i);
        if tokens[end].text == "}" {
            found.push((two[1].text, two[0].line, tokens[end].line));
        }
    }
    found
}

fn left_undone(source: &Source<'_>) -> Vec<Violation> {
    let mut found = Vec::new();
    for (i, line) in source.raw.lines().enumerate() {
        for mark in ["TODO", "FIXME"] {
            if line.split(|c| !is_word_char(c)).any(|word| word == mark) {
                found
                    .push(source.violation(i + 1, format!("{mark}: do it, or describe the limit where users read it")));
            }
        }
    }
    for two in source.tokens.windows(2) {
        if matches!(two[0].text, "todo" | "unimplemented") && two[1].text == "!" {
            found.push(source.violation(two[0].line, format!("{}!: do it", two[0].text)));
        }
    }
    found
}

fn unknown_modules(source: &Source<'_>) -> Vec<Violation> {
    let mut found = Vec::new();
    if !matches!(source.file, "src/lib.rs" | "src/main.rs") {
        return found;
    }
    for three in source.tokens.windows(3) {
        let name = three[1].text;
        if three[0].text == "mod" && !three[0].in_test && matches!(three[2].text, ";" | "{") && rank(name).is_none() {
            let what = format!("`mod {name}` is no known layer; put it into one, or add it to LAYERS on purpose");
            found.push(source.violation(three[0].line, what));
        }
    }
    found
}

// ---------------------------------------------------------------- reading Rust

fn is_word_char(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

fn is_word(text: &str) -> bool {
    text.starts_with(is_word_char)
}

/// The source with comments, strings and characters blanked out; every line stays where it was.
fn without_text(raw: &str) -> String {
    let mut code = String::with_capacity(raw.len());
    let mut rest = raw;
    while let Some(first) = rest.chars().next() {
        let after_word = code.ends_with(is_word_char);
        let length = text_length(rest, after_word);
        if length == 0 {
            code.push(first);
            rest = &rest[first.len_utf8()..];
        } else {
            code.extend(rest[..length].chars().map(|c| if c == '\n' { '\n' } else { ' ' }));
            rest = &rest[length..];
        }
    }
    code
}

/// How many bytes of comment, string or character stand at the start of `rest`.
fn text_length(rest: &str, after_word: bool) -> usize {
    if rest.starts_with("//") {
        return rest.find('\n').unwrap_or(rest.len());
    }
    if rest.starts_with("/*") {
        return block_comment(rest);
    }
    let prefix =
        ["br", "cr", "r", "b", "c"].into_iter().find(|prefix| rest.starts_with(prefix) && !after_word).unwrap_or("");
    let body = &rest[prefix.len()..];
    let hashes = body.len() - body.trim_start_matches('#').len();
    if prefix.ends_with('r') && body[hashes..].starts_with('"') {
        let end = format!("\"{}", &body[..hashes]);
        let inside = prefix.len() + hashes + 1;
        return rest[inside..].find(&end).map_or(rest.len(), |at| inside + at + end.len());
    }
    if !prefix.ends_with('r') && body.starts_with('"') {
        return prefix.len() + quoted(body, '"');
    }
    if matches!(prefix, "" | "b") && body.starts_with('\'') {
        let mut chars = body.chars().skip(1);
        // A lifetime has no quote behind its first character.
        let is_char = chars.next() == Some('\\') || chars.next() == Some('\'');
        return if is_char { prefix.len() + quoted(body, '\'') } else { 0 };
    }
    0
}

fn quoted(body: &str, quote: char) -> usize {
    let mut escaped = false;
    for (at, c) in body.char_indices().skip(1) {
        if c == quote && !escaped {
            return at + c.len_utf8();
        }
        escaped = c == '\\' && !escaped;
    }
    body.len()
}

fn block_comment(rest: &str) -> usize {
    let (mut depth, mut at) = (0, 0);
    while at < rest.len() {
        match &rest.as_bytes()[at..(at + 2).min(rest.len())] {
            b"/*" => (depth, at) = (depth + 1, at + 2),
            b"*/" if depth == 1 => return at + 2,
            b"*/" => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
    }
    rest.len()
}

fn tokenize(code: &str) -> Vec<Token<'_>> {
    let mut tokens = Vec::new();
    for (i, line) in code.lines().enumerate() {
        let mut rest = line.trim_start();
        while let Some(first) = rest.chars().next() {
            let length = if is_word_char(first) {
                rest.find(|c| !is_word_char(c)).unwrap_or(rest.len())
            } else if rest.starts_with("::") {
                2
            } else {
                first.len_utf8()
            };
            tokens.push(Token { text: &rest[..length], line: i + 1, in_test: false });
            rest = rest[length..].trim_start();
        }
    }
    tokens
}

/// Marks each item that stands under `#[cfg(test)]`.
fn mark_tests(tokens: &mut [Token<'_>]) {
    let mut i = 0;
    while i + 4 < tokens.len() {
        let words = [tokens[i].text, tokens[i + 1].text, tokens[i + 2].text, tokens[i + 3].text];
        if words != ["#", "[", "cfg", "("] {
            i += 1;
            continue;
        }
        let close = (i..tokens.len()).find(|&at| tokens[at].text == "]").unwrap_or(tokens.len() - 1);
        let says = |word: &str| tokens[i..close].iter().any(|token| token.text == word);
        let end = if says("test") && !says("not") { end_of_item(tokens, close + 1) } else { close };
        for token in &mut tokens[i..=end] {
            token.in_test = end > close;
        }
        i = end + 1;
    }
}

/// The `;` or the closing brace that ends the item at `at`.
fn end_of_item(tokens: &[Token<'_>], at: usize) -> usize {
    let (mut round, mut braces) = (0_usize, 0_usize);
    for (i, token) in tokens.iter().enumerate().skip(at) {
        match token.text {
            "(" | "[" => round += 1,
            ")" | "]" => round = round.saturating_sub(1),
            "{" => braces += 1,
            "}" => {
                braces = braces.saturating_sub(1);
                if braces == 0 {
                    return i;
                }
            }
            ";" if round == 0 && braces == 0 => return i,
            _ => {}
        }
    }
    tokens.len() - 1
}

// ---------------------------------------------------------------- the real tree

fn files_below(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display())) {
        let path = entry.expect("a readable folder").path();
        if path.is_dir() {
            files_below(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// Name and text of every file in `src/`, names from the repository's root.
fn read_all() -> Vec<(String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut paths = Vec::new();
    files_below(&root.join("src"), &mut paths);
    paths.sort();
    let name = |path: &Path| path.strip_prefix(root).expect("below the root").display().to_string();
    paths.iter().map(|path| (name(path), fs::read_to_string(path).expect("UTF-8"))).collect()
}

/// The files that exist only for tests: those that a `#[cfg(test)] mod name;` brings in.
fn test_files(files: &[(String, String)]) -> Vec<String> {
    let mut found = Vec::new();
    for (file, raw) in files {
        let code = without_text(raw);
        let source = Source::new(file, raw, &code, false);
        let folder: String = source.module().iter().map(|part| format!("{part}/")).collect();
        for three in source.tokens.windows(3) {
            if three[0].text == "mod" && three[0].in_test && three[2].text == ";" {
                found.push(format!("src/{folder}{}", three[1].text));
            }
        }
    }
    found
}

fn is_test_file(file: &str, test_files: &[String]) -> bool {
    test_files
        .iter()
        .any(|stem| file.strip_prefix(stem.as_str()).is_some_and(|rest| rest == ".rs" || rest.starts_with('/')))
}

/// Fails with one line for each violation.
fn assert_none(found: &[Violation]) {
    let lines: Vec<_> = found.iter().map(ToString::to_string).collect();
    assert!(found.is_empty(), "{} places leave the frame:\n{}", found.len(), lines.join("\n"));
}

#[test]
fn the_source_keeps_its_frame() {
    let files = read_all();
    let tests = test_files(&files);
    let mut found = Vec::new();
    for (file, raw) in &files {
        let code = without_text(raw);
        found.extend(check(&Source::new(file, raw, &code, is_test_file(file, &tests))));
    }
    assert!(files.len() > 5, "src/ was read: {} files", files.len());
    assert_none(&found);
}

#[test]
fn yaml_is_read_in_one_file_only() {
    let (files, mut found) = (read_all(), Vec::new());
    let tests = test_files(&files);
    for (file, raw) in &files {
        let code = without_text(raw);
        let source = Source::new(file, raw, &code, is_test_file(file, &tests));
        if let Some(&line) = crate_named(&source, "serde_yaml").first() {
            found.push(source.violation(line, "names serde_yaml; only one file may"));
        }
    }
    if found.len() > 1 {
        assert_none(&found);
    }
}

// ---------------------------------------------------------------- the rules fire

/// The lines of a sample that break a rule.
fn lines(file: &str, raw: &str) -> Vec<usize> {
    let code = without_text(raw);
    check(&Source::new(file, raw, &code, false)).iter().map(|violation| violation.line).collect()
}

#[test]
fn an_import_that_goes_up_is_found_however_it_is_written() {
    assert_eq!(lines("src/mux/pool.rs", "use crate::net::Listener;\n"), [1]);
    assert_eq!(lines("src/mux/pool.rs", "use crate::{\n    config::Size,\n    net::{self, Listener},\n};\n"), [3, 3]);
    assert_eq!(lines("src/mux/pool.rs", "use {std::fmt, crate::wire as w, crate::admin::Page as P};\n"), [1]);
    assert_eq!(lines("src/mux/pool.rs", "fn f() {\n    let x = crate::net::clock::<u8>();\n}\n"), [2]);
    assert_eq!(lines("src/metrics/mod.rs", "pub use super::net::Listener;\n"), [1]);
    assert_eq!(lines("src/mux/pool.rs", "use super::super::{wire, admin::Page};\n"), [1]);
    assert_eq!(lines("src/mux/pool.rs", "mod inner {\n    use super::super::super::net::X;\n}\n"), [2]);
    assert_eq!(lines("src/mux/pool.rs", "#[cfg(test)]\nmod tests {\n    use crate::net::X;\n}\n"), [3]);
    assert_eq!(lines("src/net/mod.rs", "use self::super::admin;\nuse crate as root;\nuse crate::*;\n"), [1, 2, 3]);
    assert_eq!(lines("src/net/mod.rs", "use crate::run;\n"), [1]);
    assert_eq!(lines("src/lib.rs", "use crate::cli::Arguments;\n"), [1]);
}

#[test]
fn an_import_that_goes_down_is_let_through() {
    assert!(lines("src/net/mod.rs", "use crate::{metrics, mux::{Pool, self}, wire, config::*};\n").is_empty());
    assert!(
        lines("src/mux/pool.rs", "use super::lease::Lease;\n#[cfg(test)]\nmod tests { use super::*; }\n").is_empty()
    );
    assert!(lines("src/mux/pool.rs", "pub(crate) fn f(a: super::Lease) { pub(super) struct X; }\n").is_empty());
    assert!(lines("src/config/value.rs", "use std::net::SocketAddr;\nuse crate::config::Size;\n").is_empty());
    assert!(lines("src/lib.rs", "pub mod net;\nuse crate::net::Listener;\nuse self::admin::Page;\n").is_empty());
    assert!(lines("src/main.rs", "mod cli;\nuse fcgimux::admin;\nuse crate::cli::Arguments;\n").is_empty());
}

#[test]
fn layers_that_do_not_speak_to_each_other_are_kept_apart() {
    assert_eq!(lines("src/admin/page.rs", "use crate::net::Listener;\nuse crate::{wire::Header};\n"), [1, 2]);
    assert_eq!(lines("src/wire/mod.rs", "use crate::{config::Size, mux};\n"), [1, 1]);
    assert_eq!(lines("src/config/mod.rs", "use crate::wire;\nuse super::mux::Pool;\n"), [1, 2]);
    assert_eq!(lines("src/metrics/mod.rs", "use tokio::time;\nuse crate::{net};\n"), [1, 2]);
}

#[test]
fn the_core_knows_no_runtime_and_no_clock() {
    let sample =
        "use tokio::net;\nuse tokio_util::x;\nuse ::tracing::info;\nmetrics::counter!(\"a\");\nlet metrics = 1;\n";
    assert_eq!(lines("src/mux/pool.rs", sample), [1, 2, 3, 4]);
    assert_eq!(lines("src/wire/mod.rs", "use {std::fmt, tokio::net};\nuse tokio;\nextern crate tokio;\n"), [1, 2, 3]);
    let sample = "async fn f() {\n    g().await;\n    let now = std::time::Instant::now();\n    now.elapsed();\n}\n";
    assert_eq!(lines("src/mux/pool.rs", sample), [1, 2, 3, 4]);
    assert!(lines("src/net/mod.rs", &sample.replace("fn f", "fn h")).is_empty());
    assert!(
        lines("src/mux/pool.rs", "#[cfg(test)]\nmod tests {\n    fn f() { let t = Instant::now(); }\n}\n").is_empty()
    );
    assert_eq!(lines("src/mux/pool.rs", "#[cfg(not(test))]\nfn f() { let t = Instant::now(); }\n"), [2]);
}

#[test]
fn comments_and_strings_are_not_code() {
    let sample = "//! see crate::net::X\n/* crate::net /* nested */ tokio::x */\n/// [`crate::net`]\n";
    assert!(lines("src/mux/pool.rs", sample).is_empty());
    let sample =
        r###"let a = "crate::net::x \" tokio::x"; let b = r#"crate::net " x"#; let c = b"\\"; let d = ('"', b'\'');"###;
    assert!(lines("src/mux/pool.rs", sample).is_empty());
    let sample = "fn f<'a>(a: &'a str) -> char { '\"' }\nuse crate::net;\nlet r#type = 'x';\nuse crate::admin;\n";
    assert_eq!(lines("src/mux/pool.rs", sample), [2, 4]);
}

#[test]
fn a_function_or_a_file_that_is_too_long_is_found() {
    let long =
        |lines: usize| format!("fn f(a: [u8; 4])\nwhere\n    u8: Copy,\n{{\n{}}}\n", "    g();\n".repeat(lines - 5));
    assert!(lines("src/mux/pool.rs", &long(60)).is_empty());
    assert_eq!(lines("src/mux/pool.rs", &long(61)), [1]);
    assert!(lines("src/mux/pool.rs", &format!("#[cfg(test)]\nmod tests {{\n{}}}\n", long(90))).is_empty());
    assert_eq!(
        lines("src/mux/pool.rs", &format!("trait T {{\n    fn f();\n    type F = fn(u8);\n}}\n{}", long(61))),
        [5]
    );
    assert_eq!(lines("src/mux/pool.rs", &format!("fn f() {{ let a = \"}}\"; '}}';\n{}}}\n", "// }\n".repeat(60))), [1]);
    assert!(lines("src/mux/pool.rs", &"\n".repeat(600)).is_empty());
    assert_eq!(lines("src/mux/pool.rs", &"\n".repeat(601)), [601]);
}

#[test]
fn work_left_undone_is_found() {
    assert_eq!(lines("src/net/mod.rs", "// TODO: this\nlet s = \"FIXME\";\nlet TODOS = 1;\ntodo!();\n"), [1, 2, 4]);
}

#[test]
fn a_module_that_nobody_has_placed_is_found() {
    assert_eq!(lines("src/lib.rs", "pub mod net;\npub mod helpers;\n#[cfg(test)]\nmod testing;\n"), [2]);
    assert_eq!(lines("src/helpers/mod.rs", "use std::fmt;\n"), [1]);
}

#[test]
fn a_file_brought_in_for_tests_only_is_known_as_such() {
    let files = [("src/mux/mod.rs".to_owned(), "mod pool;\n#[cfg(test)]\nmod tests;\n".to_owned())];
    let tests = test_files(&files);
    assert!(is_test_file("src/mux/tests.rs", &tests) && is_test_file("src/mux/tests/pool.rs", &tests));
    assert!(!is_test_file("src/mux/pool.rs", &tests) && !is_test_file("src/mux/tests_of.rs", &tests));
}

#[test]
fn a_violation_says_where_and_what_to_do() {
    let raw = "\nuse crate::net::Listener;\n";
    let found = check(&Source::new("src/mux/pool.rs", raw, raw, false));
    let says = "src/mux/pool.rs:2: `mux` uses `crate::net::Listener`, which is above it; move it down, or pass it in as an argument";
    assert_eq!(found.iter().map(ToString::to_string).collect::<Vec<_>>(), [says]);
}
