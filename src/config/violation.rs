//! What is wrong with a configuration, all of it at once.

use std::{fmt, io, path::PathBuf};

/// One thing that is wrong, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// From 1; `None` where a configuration has no lines (flags) or the fault has no place (a file too large).
    pub line: Option<usize>,
    /// From 1.
    pub column: Option<usize>,
    /// `pools.php.queue.depth`, or the name of a flag; empty where the fault is the file's as a whole.
    pub path: String,
    pub message: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.path.is_empty() {
            write!(f, "{}: ", self.path)?;
        }
        f.write_str(&self.message)
    }
}

/// Everything that is wrong with one configuration; never empty. Shown as one line each: `file:line: path: message`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violations {
    /// Name of the file as the operator wrote it; none for flags and for text without a file.
    file: Option<String>,
    list: Vec<Violation>,
}

impl Violations {
    pub(super) fn new(list: Vec<Violation>) -> Self {
        debug_assert!(!list.is_empty(), "no violation is no error");
        Self { file: None, list }
    }

    /// The same, shown as those of a file of this name.
    #[must_use]
    pub fn in_file(mut self, name: impl fmt::Display) -> Self {
        self.file = Some(name.to_string());
        self
    }

    /// In the order of the file.
    pub fn iter(&self) -> std::slice::Iter<'_, Violation> {
        self.list.iter()
    }
}

impl fmt::Display for Violations {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, violation) in self.list.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            match (&self.file, violation.line) {
                (Some(file), Some(line)) => write!(f, "{file}:{line}: ")?,
                (Some(file), None) => write!(f, "{file}: ")?,
                (None, Some(line)) => write!(f, "line {line}: ")?,
                (None, None) => {}
            }
            write!(f, "{violation}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Violations {}

/// Why a file gave no configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("cannot read {}: {source}", path.display())]
    Unreadable { path: PathBuf, source: io::Error },
    #[error(transparent)]
    Invalid(#[from] Violations),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_violation_is_shown_on_a_line_of_its_own() {
        let violation = |line, path: &str| Violation { line, column: None, path: path.into(), message: "no".into() };
        let violations = Violations::new(vec![violation(Some(3), "threads"), violation(None, "")]);
        assert_eq!(violations.to_string(), "line 3: threads: no\nno");
        assert_eq!(violations.in_file("a.yaml").to_string(), "a.yaml:3: threads: no\na.yaml: no");
    }
}
