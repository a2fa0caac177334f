//! A configuration before it is understood: values without types, as a file or the command line gave them, and the
//! way from the root to one of them.

use std::fmt;

/// What stands at one place of a file.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Node {
    Null,
    Bool(bool),
    Integer(i128),
    Float(f64),
    Text(String),
    List(Vec<Self>),
    /// In the order of the file; a key may stand here twice, which [`super::section`] refuses.
    Map(Vec<(String, Self)>),
    /// A value behind a YAML tag (`!name`); refused wherever it stands, so what it holds is not kept.
    Tagged(String),
}

impl Node {
    pub(super) fn text(text: impl fmt::Display) -> Self {
        Self::Text(text.to_string())
    }

    pub(super) fn map<const N: usize>(entries: [(&str, Self); N]) -> Self {
        Self::Map(entries.into_iter().map(|(key, value)| (key.to_owned(), value)).collect())
    }
}

/// How an error names a value: short, and safe to print on a terminal.
impl fmt::Display for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Null => f.write_str("nothing"),
            Self::Bool(value) => write!(f, "{value}"),
            Self::Integer(value) => write!(f, "{value}"),
            Self::Float(value) => write!(f, "{value}"),
            Self::Text(text) => f.write_str(&quoted(text)),
            Self::List(_) => f.write_str("a list"),
            Self::Map(_) => f.write_str("a mapping"),
            Self::Tagged(tag) => write!(f, "the tag {}", quoted(tag)),
        }
    }
}

/// Text of the operator inside an error: escaped, and cut before it floods the terminal.
pub(super) fn quoted(text: &str) -> String {
    const SHOWN: usize = 40;
    let mut shown: String = text.chars().take(SHOWN).flat_map(char::escape_debug).collect();
    if text.chars().nth(SHOWN).is_some() {
        shown.push_str("...");
    }
    format!("`{shown}`")
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// The `occurrence`-th entry of that name; more than 0 only where a key is given twice.
    Key {
        name: String,
        occurrence: usize,
    },
    Index(usize),
}

/// The way from the root to a value; shown as `pools.php.endpoints[0].dns`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Path(Vec<Step>);

impl Path {
    pub(super) fn key(&self, name: &str) -> Self {
        self.repeated(name, 0)
    }

    pub(super) fn repeated(&self, name: &str, occurrence: usize) -> Self {
        self.then(Step::Key { name: name.to_owned(), occurrence })
    }

    pub(super) fn index(&self, index: usize) -> Self {
        self.then(Step::Index(index))
    }

    pub(super) fn starts_with(&self, other: &Self) -> bool {
        self.0.starts_with(&other.0)
    }

    /// The steps that lead to something in `root`: a missing key is reported where it should have stood.
    pub(super) fn existing<'a>(&'a self, root: &Node) -> &'a [Step] {
        let mut node = root;
        for (depth, step) in self.0.iter().enumerate() {
            let next = match (step, node) {
                (Step::Key { name, occurrence }, Node::Map(entries)) => {
                    entries.iter().filter(|(key, _)| key == name).nth(*occurrence).map(|(_, value)| value)
                }
                (Step::Index(index), Node::List(items)) => items.get(*index),
                _ => None,
            };
            let Some(next) = next else { return &self.0[..depth] };
            node = next;
        }
        &self.0
    }

    fn then(&self, step: Step) -> Self {
        let mut steps = self.0.clone();
        steps.push(step);
        Self(steps)
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (depth, step) in self.0.iter().enumerate() {
            match step {
                Step::Key { name, .. } => {
                    if depth > 0 {
                        f.write_str(".")?;
                    }
                    let plain = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-".contains(&byte));
                    if plain && (1..=63).contains(&name.len()) {
                        f.write_str(name)?;
                    } else {
                        f.write_str(&quoted(name))?;
                    }
                }
                Step::Index(index) => write!(f, "[{index}]")?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_shown_as_one_would_write_it() {
        let path = Path::default().key("pools").key("php").key("endpoints").index(1).key("dns");
        assert_eq!(path.to_string(), "pools.php.endpoints[1].dns");
        assert_eq!(Path::default().key("a b\n").to_string(), "`a b\\n`");
    }

    #[test]
    fn a_path_is_cut_to_what_exists() {
        let root = Node::map([("pools", Node::List(vec![Node::Null]))]);
        let pools = Path::default().key("pools");
        assert_eq!(pools.key("php").existing(&root), pools.0);
        assert_eq!(pools.index(0).existing(&root), pools.index(0).0);
        assert_eq!(pools.index(1).existing(&root), pools.0);
    }

    #[test]
    fn long_text_in_an_error_is_cut_and_escaped() {
        assert_eq!(quoted("a\u{1b}[31m"), "`a\\u{1b}[31m`");
        assert!(quoted(&"x".repeat(1000)).len() < 60);
    }
}
