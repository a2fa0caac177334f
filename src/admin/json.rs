//! JSON that is read with curl as well as by programs: each member of the outermost object on a line of its own, and so
//! each item of a list that it holds; everything below that stands on the line of its item.

use serde::Serialize;
use serde_json::ser::{Formatter, Serializer};
use std::{
    io::{self, Write},
    time::Duration,
};

/// Ends with a line break.
pub(super) fn text(value: &impl Serialize) -> String {
    let mut bytes = Vec::new();
    let written = value.serialize(&mut Serializer::with_formatter(&mut bytes, Lines::default()));
    // Writing to memory does not fail, and what is written here has only strings for keys.
    debug_assert!(written.is_ok(), "{written:?}");
    bytes.push(b'\n');
    String::from_utf8(bytes).unwrap_or_default()
}

/// To a microsecond: more digits say nothing and are hard to read.
pub(super) fn seconds(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1e6).round() / 1e6
}

#[derive(Default)]
struct Lines {
    /// Objects and arrays that are open.
    depth: usize,
    /// The innermost of them has something in it.
    filled: bool,
}

impl Lines {
    /// Opens an object or an array.
    fn open<W: ?Sized + Write>(&mut self, writer: &mut W, bracket: &[u8]) -> io::Result<()> {
        self.depth += 1;
        self.filled = false;
        writer.write_all(bracket)
    }

    fn close<W: ?Sized + Write>(&mut self, writer: &mut W, spread: usize, bracket: &[u8]) -> io::Result<()> {
        let on_line = self.filled && self.depth <= spread;
        self.depth -= 1;
        if on_line {
            self.line(writer)?;
        }
        self.filled = true;
        writer.write_all(bracket)
    }

    /// In front of an item; down to a depth of `spread` each has its line.
    fn item<W: ?Sized + Write>(&self, writer: &mut W, spread: usize, first: bool) -> io::Result<()> {
        match (self.depth <= spread, first) {
            (true, true) => self.line(writer),
            (true, false) => writer.write_all(b",").and_then(|()| self.line(writer)),
            (false, true) => Ok(()),
            (false, false) => writer.write_all(b", "),
        }
    }

    fn line<W: ?Sized + Write>(&self, writer: &mut W) -> io::Result<()> {
        writer.write_all(b"\n")?;
        (0..self.depth).try_for_each(|_| writer.write_all(b"  "))
    }
}

/// Depth down to which the members of objects have lines.
const OBJECTS: usize = 1;
/// Depth down to which the items of lists have lines.
const LISTS: usize = 2;

impl Formatter for Lines {
    fn begin_array<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.open(writer, b"[")
    }

    fn end_array<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.close(writer, LISTS, b"]")
    }

    fn begin_array_value<W: ?Sized + Write>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        self.item(writer, LISTS, first)
    }

    fn end_array_value<W: ?Sized + Write>(&mut self, _writer: &mut W) -> io::Result<()> {
        self.filled = true;
        Ok(())
    }

    fn begin_object<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.open(writer, b"{")
    }

    fn end_object<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.close(writer, OBJECTS, b"}")
    }

    fn begin_object_key<W: ?Sized + Write>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        self.item(writer, OBJECTS, first)
    }

    fn begin_object_value<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        writer.write_all(b": ")
    }

    fn end_object_value<W: ?Sized + Write>(&mut self, _writer: &mut W) -> io::Result<()> {
        self.filled = true;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_list_has_one_item_on_a_line() {
        let value = json!({"a": {"x": 1, "y": [1, 2]}, "b": [{"c": {}, "d": [[]]}, {"e": null}], "f": [], "g": "\"\n"});
        let expected = "{\n  \"a\": {\"x\": 1, \"y\": [1, 2]},\n  \"b\": [\n    {\"c\": {}, \"d\": [[]]},\n    {\"e\": \
                        null}\n  ],\n  \"f\": [],\n  \"g\": \"\\\"\\n\"\n}\n";
        // A list below the outermost object's members has no lines.
        let text = text(&value);
        assert_eq!(text, expected);
        assert_eq!(serde_json::from_str::<serde_json::Value>(&text).unwrap(), value);
    }

    #[test]
    fn seconds_are_given_to_a_microsecond() {
        assert_eq!(text(&seconds(Duration::from_nanos(1_500_000_400))), "1.5\n");
        assert_eq!(text(&seconds(Duration::ZERO)), "0.0\n");
    }
}
