//! YAML text to a [`Node`], and a place in it to its line. The only file that knows the YAML library.
//!
//! The library gives a line with an error and with nothing else. So a file is read once into nodes without lines, and for
//! each violation once more, down to its place, where an error is raised on purpose: the library then says where it is.

use std::{cell::Cell, fmt};

use serde::de::{
    self, DeserializeSeed, Deserializer, EnumAccess, IgnoredAny, MapAccess, SeqAccess, VariantAccess, Visitor,
};

use super::{
    Violation,
    node::{Node, Path, Step},
};

/// No real configuration comes near; a wrong path given as `--config` may.
pub(super) const FILE_AT_MOST: usize = 1 << 20;
/// What a file may grow to once its aliases are followed, in bytes of text and [`NODE_COST`] for each value. Without it,
/// a few kilobytes of aliases to aliases would fill the memory.
const TOTAL_COST_AT_MOST: usize = 4 << 20;
/// About the bytes that a node takes in memory.
const NODE_COST: usize = 128;
/// libyaml takes time quadratic in the depth of brackets, and reads all of a file before its own limit is seen.
const BRACKETS_AT_MOST: usize = 10_000;

pub(super) fn parse(text: &str) -> Result<Node, Violation> {
    check_size(text)?;
    let cost = Cell::new(0);
    let parsed = ReadNode { cost: &cost }.deserialize(serde_yaml::Deserializer::from_str(text));
    parsed.map_err(|error| {
        let (line, column) = error.location().map(|place| (place.line(), place.column())).unzip();
        Violation { line, column, path: String::new(), message: without_place(&error.to_string()) }
    })
}

/// Line and column of what stands at `path`, or, where nothing does, of the nearest that leads there. The place of a key
/// with its value is that of the key.
pub(super) fn locate(text: &str, root: &Node, path: &Path) -> Option<(usize, usize)> {
    let steps = path.existing(root);
    if steps.is_empty() {
        return None;
    }
    let raised = FindPlace { steps }.deserialize(serde_yaml::Deserializer::from_str(text));
    let place = raised.err()?.location()?;
    Some((place.line(), place.column()))
}

fn check_size(text: &str) -> Result<(), Violation> {
    let fault = |message: String| Violation { line: None, column: None, path: String::new(), message };
    if text.len() > FILE_AT_MOST {
        return Err(fault("larger than 1 MiB, which is no configuration".to_owned()));
    }
    if text.bytes().filter(|byte| b"[{".contains(byte)).count() > BRACKETS_AT_MOST {
        return Err(fault(format!("holds more than {BRACKETS_AT_MOST} brackets, which is no configuration")));
    }
    Ok(())
}

/// The library ends its messages with the place, which a violation carries already.
fn without_place(message: &str) -> String {
    let end = message.rfind(" at line ").filter(|end| message[*end..].contains(" column ")).unwrap_or(message.len());
    message[..end].replace(char::is_control, " ")
}

#[derive(Clone, Copy)]
struct ReadNode<'a> {
    /// What has been read so far, of [`TOTAL_COST_AT_MOST`].
    cost: &'a Cell<usize>,
}

impl ReadNode<'_> {
    fn charge<E: de::Error>(self, bytes: usize) -> Result<(), E> {
        let cost = self.cost.get().saturating_add(bytes);
        self.cost.set(cost);
        if cost > TOTAL_COST_AT_MOST {
            return Err(E::custom("too many values, counting those that aliases repeat"));
        }
        Ok(())
    }
}

impl<'de> DeserializeSeed<'de> for ReadNode<'_> {
    type Value = Node;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Node, D::Error> {
        self.charge(NODE_COST)?;
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for ReadNode<'_> {
    type Value = Node;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Node, E> {
        Ok(Node::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Node, E> {
        Ok(Node::Integer(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Node, E> {
        Ok(Node::Integer(value.into()))
    }

    fn visit_i128<E>(self, value: i128) -> Result<Node, E> {
        Ok(Node::Integer(value))
    }

    /// Only numbers above `u64::MAX` come here, which are too large for any setting.
    fn visit_u128<E>(self, value: u128) -> Result<Node, E> {
        Ok(Node::Integer(i128::try_from(value).unwrap_or(i128::MAX)))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Node, E> {
        Ok(Node::Float(value))
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Node, E> {
        self.charge(text.len())?;
        Ok(Node::Text(text.to_owned()))
    }

    fn visit_unit<E>(self) -> Result<Node, E> {
        Ok(Node::Null)
    }

    /// An empty file.
    fn visit_none<E>(self) -> Result<Node, E> {
        Ok(Node::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Node, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = list.next_element_seed(self)? {
            items.push(item);
        }
        Ok(Node::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Node, A::Error> {
        let mut entries = Vec::new();
        while let Some(key) = map.next_key::<String>()? {
            self.charge(key.len())?;
            entries.push((key, map.next_value_seed(self)?));
        }
        Ok(Node::Map(entries))
    }

    fn visit_enum<A: EnumAccess<'de>>(self, tagged: A) -> Result<Node, A::Error> {
        let (tag, content) = tagged.variant::<String>()?;
        self.charge(tag.len())?;
        content.newtype_variant_seed(self)?;
        Ok(Node::Tagged(tag))
    }
}

/// Goes down to a place and fails there; never succeeds.
#[derive(Clone, Copy)]
struct FindPlace<'a> {
    steps: &'a [Step],
}

fn here<T, E: de::Error>() -> Result<T, E> {
    Err(E::custom("here"))
}

impl<'de> DeserializeSeed<'de> for FindPlace<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for FindPlace<'_> {
    type Value = ();

    /// Also the message of every kind of value without a method below, which fails as it should.
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a place")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        let Some((Step::Index(index), steps)) = self.steps.split_first() else { return here() };
        for _ in 0..*index {
            list.next_element::<IgnoredAny>()?;
        }
        list.next_element_seed(FindPlace { steps })?;
        here()
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let Some((Step::Key { name, occurrence }, steps)) = self.steps.split_first() else { return here() };
        let left = Cell::new(*occurrence);
        while let Some(found) = map.next_key_seed(FindKey { name, left: &left, is_place: steps.is_empty() })? {
            if found {
                map.next_value_seed(FindPlace { steps })?;
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        here()
    }
}

/// Says whether a key is the wanted one, and fails there if the key is the wanted place.
#[derive(Clone, Copy)]
struct FindKey<'a> {
    name: &'a str,
    /// Keys of that name to be passed over.
    left: &'a Cell<usize>,
    is_place: bool,
}

impl<'de> DeserializeSeed<'de> for FindKey<'_> {
    type Value = bool;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<bool, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for FindKey<'_> {
    type Value = bool;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E: de::Error>(self, key: &str) -> Result<bool, E> {
        if key != self.name {
            return Ok(false);
        }
        match self.left.get().checked_sub(1) {
            Some(left) => {
                self.left.set(left);
                Ok(false)
            }
            None if self.is_place => here(),
            None => Ok(true),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line_of(text: &str, path: &Path) -> Option<usize> {
        locate(text, &parse(text).unwrap(), path).map(|(line, _)| line)
    }

    #[test]
    fn every_kind_of_value_becomes_a_node() {
        let root = parse("a: 5\nb: -5\nc: 1.5\nd: off\ne: true\nf:\ng: [x]\n\"8\": '0'\n").unwrap();
        let expected = Node::map([
            ("a", Node::Integer(5)),
            ("b", Node::Integer(-5)),
            ("c", Node::Float(1.5)),
            ("d", Node::text("off")),
            ("e", Node::Bool(true)),
            ("f", Node::Null),
            ("g", Node::List(vec![Node::text("x")])),
            ("8", Node::text("0")),
        ]);
        assert_eq!(root, expected);
        assert_eq!(parse(""), Ok(Node::Null));
        assert_eq!(parse("# nothing\n"), Ok(Node::Null));
        assert_eq!(parse("!secret {a: 1}"), Ok(Node::Tagged("secret".into())));
    }

    #[test]
    fn a_place_is_the_line_of_its_key_or_item() {
        let text = "a:\n  b: 1\n  c:\n\n    - d: 1\n      e: 2\n    - 5\n  b: 2\n";
        let c = Path::default().key("a").key("c");
        for (path, line) in [
            (Path::default().key("a"), 1),
            (Path::default().key("a").key("b"), 2),
            (c.clone(), 3),
            (c.index(0), 5),
            (c.index(0).key("e"), 6),
            (c.index(1), 7),
            (Path::default().key("a").repeated("b", 1), 8),
            (c.index(0).key("missing").key("below"), 5),
        ] {
            assert_eq!(line_of(text, &path), Some(line), "{path}");
        }
        assert_eq!(line_of(text, &Path::default().key("missing")), None);
    }

    #[test]
    fn a_place_behind_an_alias_is_found() {
        let text = "a: &a\n  - x: 1\nb: *a\n";
        assert_eq!(line_of(text, &Path::default().key("b").index(0).key("x")), Some(2));
    }

    #[test]
    fn a_syntax_error_has_its_line() {
        let violation = parse("a: 1\nb: [1, 2\nc: 3\n").unwrap_err();
        assert!(violation.line.is_some_and(|line| line >= 2), "{violation:?}");
        let violation = parse("a: 1\n\tb: 2\n").unwrap_err();
        assert_eq!(violation.line, Some(2));
        assert!(violation.message.starts_with("found a tab"), "{}", violation.message);
        let violation = parse("a: *b\n").unwrap_err();
        assert_eq!((violation.line, violation.message.as_str()), (Some(1), "unknown anchor"));
        assert!(parse("a: 1\n---\nb: 2\n").unwrap_err().message.contains("more than one document"));
    }

    #[test]
    fn what_would_fill_the_memory_is_refused() {
        let large = "#".repeat(FILE_AT_MOST + 1);
        assert!(parse(&large).unwrap_err().message.contains("1 MiB"));
        let items = "x,".repeat(2000);
        let aliases = "*a,".repeat(2000);
        let laughs = format!("a: &a [{items}]\nb: [{aliases}]\n");
        assert!(parse(&laughs).unwrap_err().message.contains("too many values"));
        let long = format!("a: &a {}\nb: [{aliases}]\n", "x".repeat(100_000));
        assert!(parse(&long).unwrap_err().message.contains("too many values"));
    }

    #[test]
    fn deep_nesting_is_refused_without_a_panic() {
        for nest in ["[", "{a: ", "- ", "? ", "!a [", "&a ["] {
            for depth in [200, 5_000, 100_000] {
                assert!(parse(&nest.repeat(depth)).is_err(), "{nest:?} x {depth}");
            }
        }
        let indented: String = (0..1000).map(|depth| format!("{:depth$}a:\n", "")).collect();
        assert_eq!(parse(&indented).unwrap_err().message, "recursion limit exceeded");
    }
}
