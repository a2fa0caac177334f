//! One mapping of a configuration, read key by key against the table of keys. Every fault goes to the report; the reader
//! goes on with the default, so that all faults are found in one go.

use std::{
    cell::{Cell, RefCell},
    collections::{HashMap, HashSet},
};

use super::{
    Violation,
    defaults::{KEYS, key_at},
    file,
    node::{Node, Path, quoted},
};

/// Faults that are kept; those of a file that is not a configuration at all are only counted. To find the line of one
/// costs a pass over the file.
const FAULTS_KEPT: usize = 100;

/// Faults so far, with the place of each.
#[derive(Default)]
pub(super) struct Report {
    faults: RefCell<Vec<(Path, String)>>,
    /// Faults beyond [`FAULTS_KEPT`].
    dropped: Cell<usize>,
}

impl Report {
    pub(super) fn add(&self, path: Path, message: impl Into<String>) {
        let mut faults = self.faults.borrow_mut();
        if faults.len() < FAULTS_KEPT {
            faults.push((path, message.into()));
        } else {
            self.dropped.set(self.dropped.get() + 1);
        }
    }

    /// Every fault as a violation; `locate` says on which line and column a place is.
    pub(super) fn into_violations(self, locate: impl Fn(&Path) -> Option<(usize, usize)>) -> Vec<Violation> {
        let dropped = self.dropped.get();
        let mut violations: Vec<Violation> = Vec::new();
        for (path, message) in self.faults.into_inner() {
            let (line, column) = locate(&path).unzip();
            violations.push(Violation { line, column, path: path.to_string(), message });
        }
        violations.sort_by_key(|violation| (violation.line, violation.column));
        if dropped > 0 {
            let message = format!("{dropped} more, not shown");
            violations.push(Violation { line: None, column: None, path: String::new(), message });
        }
        violations
    }

    /// Nothing at this place or below has been found wrong.
    pub(super) fn is_sound(&self, path: &Path) -> bool {
        !self.faults.borrow().iter().any(|(fault, _)| fault.starts_with(path))
    }
}

/// A mapping at a known place. One that is missing reads as an empty one.
pub(super) struct Section<'a> {
    report: &'a Report,
    entries: &'a [(String, Node)],
    path: Path,
    /// The place in the words of the table: `pools.*.queue`.
    pattern: String,
    /// Keys that may stand here.
    known: Vec<&'static str>,
}

impl<'a> Section<'a> {
    pub(super) fn root(node: &'a Node, report: &'a Report) -> Self {
        Self::open(Some(node), Path::default(), String::new(), report)
    }

    /// The items of a file that is a list, or a mapping which holds that list under `name`. Each is read as an item at
    /// `pattern` of the table, but may hold only `known` keys. `None` only if a violation was reported.
    pub(super) fn listed_root(
        root: &'a Node,
        name: &str,
        pattern: &str,
        known: &[&'static str],
        report: &'a Report,
    ) -> Option<Vec<Self>> {
        let mut path = Path::default();
        let mut list = root;
        if let Node::Map(entries) = root {
            refuse_repeated_keys(entries, &path, report);
            for (key, _) in entries.iter().filter(|(key, _)| key != name) {
                report.add(path.key(key), format!("unknown key; known here: {name}"));
            }
            list = entries.iter().find(|(key, _)| key == name).map(|(_, node)| node)?;
            path = path.key(name);
        }
        let items = match list {
            Node::List(items) => items,
            // A file that was cut to nothing before it is written again must not be taken at its word.
            Node::Null => {
                report.add(path, format!("empty; write a list of {name}, or [] for none"));
                return None;
            }
            other => {
                report.add(path, not_a_list(other));
                return None;
            }
        };
        let item =
            |(index, item)| Self::open_with(Some(item), path.index(index), pattern.to_owned(), known.to_vec(), report);
        Some(items.iter().enumerate().map(item).collect())
    }

    /// A section inside this one, under a fixed name. To be opened once: its unknown keys are reported with that.
    pub(super) fn section(&self, name: &str) -> Self {
        Self::open(self.find(name), self.path.key(name), self.pattern_of(name), self.report)
    }

    /// What stands for the only item of a list that is missing: every key of it has its default.
    pub(super) fn missing_item(&self, name: &str) -> Self {
        Self::open(None, self.path.key(name), format!("{}[]", self.pattern_of(name)), self.report)
    }

    /// The sections under names that the operator chose.
    pub(super) fn named_sections(&self, name: &str) -> Vec<(&'a str, Self)> {
        let path = self.path.key(name);
        let pattern = format!("{}.*", self.pattern_of(name));
        let items = self.entries_of(name, "names of your choice");
        let section = |(key, node): &'a (String, Node)| {
            (key.as_str(), Self::open(Some(node), path.key(key), pattern.clone(), self.report))
        };
        let mut seen = HashSet::new();
        items.iter().filter(|(key, _)| seen.insert(key)).map(section).collect()
    }

    /// The items of a list of sections; `None` where the key is missing.
    pub(super) fn listed_sections(&self, name: &str) -> Option<Vec<Self>> {
        let path = self.path.key(name);
        let pattern = format!("{}[]", self.pattern_of(name));
        let items = match self.find(name)? {
            Node::List(items) => items.as_slice(),
            Node::Null => return None,
            other => {
                self.report.add(path, not_a_list(other));
                return Some(Vec::new());
            }
        };
        let section = |(index, item)| Self::open(Some(item), path.index(index), pattern.clone(), self.report);
        Some(items.iter().enumerate().map(section).collect())
    }

    /// The value of a key, or its default where it is missing or wrong.
    pub(super) fn value<T>(&self, name: &str, read: impl Fn(&Node) -> Result<T, String>) -> T {
        match self.given(name, &read) {
            Some(value) => value,
            None => default_of(&self.pattern_of(name), read),
        }
    }

    /// The value of a key that has no default; `None` where it is missing or wrong.
    pub(super) fn given<T>(&self, name: &str, read: impl Fn(&Node) -> Result<T, String>) -> Option<T> {
        debug_assert!(key_at(&self.pattern_of(name)).is_some(), "{} is not in the table", self.pattern_of(name));
        let result = match self.find(name)? {
            Node::Null => Err("has no value; write one, or leave the key out".to_owned()),
            node => read(node),
        };
        result.map_err(|message| self.complain(name, message)).ok()
    }

    /// The items of a list of values, with what is wrong reported item by item; the default where the key is missing.
    pub(super) fn list<T>(&self, name: &str, read: impl Fn(&Node) -> Result<T, String>) -> Vec<T> {
        let pattern = self.pattern_of(name);
        let items = self.given(name, |node| match node {
            Node::List(items) => Ok(items.clone()),
            other => Err(format!("{other} is not a list; write one such as [A, B], or []")),
        });
        let Some(items) = items else {
            return default_of(&pattern, |node| match node {
                Node::List(items) => items.iter().map(&read).collect(),
                _ => Err("not a list".to_owned()),
            });
        };
        let path = self.path.key(name);
        let mut values = Vec::with_capacity(items.len());
        for (index, item) in items.iter().enumerate() {
            match read(item) {
                Ok(value) => values.push(value),
                Err(message) => self.report.add(path.index(index), message),
            }
        }
        values
    }

    /// The entries of a mapping from names to values, with what is wrong reported entry by entry.
    pub(super) fn pairs<T>(&self, name: &str, read: impl Fn(&str, &Node) -> Result<T, String>) -> Vec<(String, T)> {
        let path = self.path.key(name);
        let items = self.entries_of(name, "names of your choice");
        let mut pairs = Vec::with_capacity(items.len());
        for (key, node) in items {
            match read(key, node) {
                Ok(value) => pairs.push((key.clone(), value)),
                Err(message) => self.report.add(path.key(key), message),
            }
        }
        pairs
    }

    /// The key may stand here.
    pub(super) fn knows(&self, name: &str) -> bool {
        self.known.contains(&name)
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.find(name).is_some()
    }

    /// Nothing is wrong with these keys so far, so that they may be compared.
    pub(super) fn is_sound(&self, names: &[&str]) -> bool {
        names.iter().all(|name| self.report.is_sound(&self.path.key(name)))
    }

    pub(super) fn complain(&self, name: &str, message: impl Into<String>) {
        self.report.add(self.path.key(name), message);
    }

    /// Nothing is wrong with the section so far.
    pub(super) fn is_sound_here(&self) -> bool {
        self.report.is_sound(&self.path)
    }

    /// Something is wrong with the section as a whole.
    pub(super) fn complain_here(&self, message: impl Into<String>) {
        self.report.add(self.path.clone(), message);
    }

    fn open(node: Option<&'a Node>, path: Path, pattern: String, report: &'a Report) -> Self {
        let known = known_keys(&pattern);
        Self::open_with(node, path, pattern, known, report)
    }

    fn open_with(
        node: Option<&'a Node>,
        path: Path,
        pattern: String,
        known: Vec<&'static str>,
        report: &'a Report,
    ) -> Self {
        let entries = node.map_or(&[][..], |node| entries(node, &path, &known.join(", "), report));
        let section = Self { report, entries, path, pattern, known };
        for (name, _) in entries.iter().filter(|(name, _)| !section.knows(name)) {
            section.complain(name, unknown_key(name, &section.pattern, &section.known));
        }
        section
    }

    /// The entries of a mapping whose keys the operator chose.
    fn entries_of(&self, name: &str, keys: &str) -> &'a [(String, Node)] {
        self.find(name).map_or(&[], |node| entries(node, &self.path.key(name), keys, self.report))
    }

    fn find(&self, name: &str) -> Option<&'a Node> {
        self.entries.iter().find(|(key, _)| key == name).map(|(_, node)| node)
    }

    fn pattern_of(&self, name: &str) -> String {
        if self.pattern.is_empty() { name.to_owned() } else { format!("{}.{name}", self.pattern) }
    }
}

fn not_a_list(node: &Node) -> String {
    format!("{node} is not a list; begin each item with a dash")
}

/// The entries of a mapping; `keys` says what may stand there, for something that is none.
fn entries<'a>(node: &'a Node, path: &Path, keys: &str, report: &Report) -> &'a [(String, Node)] {
    match node {
        Node::Map(entries) => {
            refuse_repeated_keys(entries, path, report);
            entries
        }
        Node::Null => &[],
        other => {
            report.add(path.clone(), format!("{other} is not a mapping; write `key: value`, with keys: {keys}"));
            &[]
        }
    }
}

fn refuse_repeated_keys(entries: &[(String, Node)], path: &Path, report: &Report) {
    let mut seen = HashMap::new();
    for (name, _) in entries {
        let occurrence: &mut usize = seen.entry(name.as_str()).or_default();
        if *occurrence > 0 {
            report.add(path.repeated(name, *occurrence), "stands here a second time; remove one");
        }
        *occurrence += 1;
    }
}

/// The names that may stand directly below a place of the table.
fn known_keys(pattern: &str) -> Vec<&'static str> {
    let mut known = Vec::new();
    for key in KEYS {
        let Some(rest) = below(key.path, pattern) else { continue };
        let name = rest.split(['.', '[']).next().unwrap_or(rest);
        if !known.contains(&name) {
            known.push(name);
        }
    }
    known
}

fn below<'a>(path: &'a str, pattern: &str) -> Option<&'a str> {
    if pattern.is_empty() { Some(path) } else { path.strip_prefix(pattern)?.strip_prefix('.') }
}

fn unknown_key(name: &str, pattern: &str, known: &[&str]) -> String {
    let list = known.join(", ");
    if known_keys(pattern).contains(&name) {
        return format!("cannot stand in a file of endpoints; known here: {list}");
    }
    let elsewhere = KEYS.iter().filter_map(|key| below(key.path, pattern)).find(|rest| {
        // A name below `*` or `[]` could be meant for any of them, so that only fixed places are suggested.
        !rest.contains(['*', '[']) && rest.rsplit('.').next() == Some(name)
    });
    match (nearest(name, known), elsewhere) {
        (Some(nearest), _) => format!("unknown key; did you mean {nearest}? known here: {list}"),
        (None, Some(place)) => format!("unknown key; did you mean {place}? known here: {list}"),
        (None, None) => format!("unknown key; known here: {list}"),
    }
}

/// The known key that a typing error away from this one, if there is one.
fn nearest<'a>(name: &str, known: &[&'a str]) -> Option<&'a str> {
    // Longer than any key with a few errors in it; bounds the work as well.
    const LONGEST: usize = 32;
    if name.len() > LONGEST {
        return None;
    }
    let name = name.to_ascii_lowercase().replace('-', "_");
    let close = |candidate: &&str| distance(&name, candidate) <= (candidate.len() / 3).max(1);
    known.iter().copied().filter(close).min_by_key(|candidate| distance(&name, candidate))
}

/// Levenshtein: how many characters to add, drop or replace.
fn distance(left: &str, right: &str) -> usize {
    let right: Vec<char> = right.chars().collect();
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (line, a) in left.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = line + 1;
        for (column, b) in right.iter().enumerate() {
            let replaced = diagonal + usize::from(a != *b);
            diagonal = row[column + 1];
            row[column + 1] = replaced.min(row[column] + 1).min(diagonal + 1);
        }
    }
    row[right.len()]
}

fn default_of<T>(pattern: &str, read: impl Fn(&Node) -> Result<T, String>) -> T {
    let default = key_at(pattern).and_then(|key| key.default);
    let read = default.and_then(|text| file::parse(text).ok()).map(|node| read(&node));
    match read {
        Some(Ok(value)) => value,
        // The table is fixed and every key of it is read by every configuration, so that any test at all finds this.
        other => panic!("the default of {} is not valid: {:?}", quoted(pattern), other.and_then(Result::err)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_known_keys_of_a_section_come_from_the_table() {
        assert_eq!(known_keys(""), ["listeners", "pools", "admin", "log", "zone", "dns", "threads", "drain"]);
        assert_eq!(known_keys("pools.*.queue"), ["depth", "timeout", "abandoned"]);
        let origins = ["dns", "srv", "service", "port", "address", "socket", "file", "weight", "zone"];
        assert_eq!(known_keys("pools.*.endpoints[]"), origins);
    }

    #[test]
    fn a_typing_error_is_answered_with_the_nearest_key() {
        let known = known_keys("pools.*.connections");
        assert_eq!(nearest("idle_timout", &known), Some("idle_timeout"));
        assert_eq!(nearest("per-endpoint", &known), Some("per_endpoint"));
        assert_eq!(nearest("MAX_AGE", &known), Some("max_age"));
        assert_eq!(nearest("color", &known), None);
        assert_eq!(nearest(&"x".repeat(1000), &known), None);
    }

    #[test]
    fn a_key_in_the_wrong_section_is_answered_with_the_right_one() {
        let message = unknown_key("depth", "pools.*", &known_keys("pools.*"));
        assert!(message.starts_with("unknown key; did you mean queue.depth?"), "{message}");
    }

    #[test]
    fn the_distance_of_two_words_counts_their_differences() {
        assert_eq!(distance("", "abc"), 3);
        assert_eq!(distance("kitten", "sitting"), 3);
        assert_eq!(distance("depth", "depth"), 0);
    }
}
