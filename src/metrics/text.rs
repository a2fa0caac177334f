//! The text format 0.0.4 of Prometheus, for what the recorder cannot hold: series that go away again, and counters that
//! are not whole numbers.

use super::definition::Definition;
use std::fmt::{Display, Write};

/// One metric in the text, with its head from the first sample on; without a sample nothing is written.
pub(super) struct Family<'a> {
    text: &'a mut String,
    definition: &'static Definition,
    begun: bool,
}

impl<'a> Family<'a> {
    pub(super) fn new(text: &'a mut String, definition: &'static Definition) -> Self {
        Self { text, definition, begun: false }
    }

    /// `values` of the labels, in the order of the definition.
    pub(super) fn sample(&mut self, values: &[&str], value: impl Display) {
        let Definition { name, kind, labels, help, .. } = self.definition;
        debug_assert_eq!(labels.len(), values.len(), "{name}");
        if !self.begun {
            self.begun = true;
            // Writing to a String does not fail, here and below.
            let _ = writeln!(self.text, "# HELP {name} {help}\n# TYPE {name} {}", kind.word());
        }
        self.text.push_str(name);
        for (place, (label, value)) in labels.iter().zip(values).enumerate() {
            self.text.push(if place == 0 { '{' } else { ',' });
            self.text.push_str(label);
            self.text.push_str("=\"");
            escape(self.text, value);
            self.text.push('"');
        }
        if !labels.is_empty() {
            self.text.push('}');
        }
        let _ = writeln!(self.text, " {value}");
    }
}

impl Drop for Family<'_> {
    fn drop(&mut self) {
        if self.begun {
            self.text.push('\n');
        }
    }
}

/// A path may hold any character.
fn escape(text: &mut String, value: &str) {
    for character in value.chars() {
        match character {
            '\\' => text.push_str("\\\\"),
            '"' => text.push_str("\\\""),
            '\n' => text.push_str("\\n"),
            other => text.push(other),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::definition;

    fn family(definition: &'static Definition, write: impl FnOnce(&mut Family<'_>)) -> String {
        let mut text = String::new();
        write(&mut Family::new(&mut text, definition));
        text
    }

    #[test]
    fn a_family_has_one_head_and_an_empty_line_behind_it() {
        let text = family(&definition::QUEUE_DEPTH, |family| {
            family.sample(&["a"], 1);
            family.sample(&["b"], 0.5);
        });
        let lines: Vec<_> = text.lines().skip(1).collect();
        let samples = ["fcgimux_queue_depth{pool=\"a\"} 1", "fcgimux_queue_depth{pool=\"b\"} 0.5", ""];
        assert_eq!(lines, [&["# TYPE fcgimux_queue_depth gauge"], &samples[..]].concat());
    }

    #[test]
    fn a_family_without_a_sample_is_not_there() {
        assert_eq!(family(&definition::QUEUE_DEPTH, |_| {}), "");
    }

    #[test]
    fn a_metric_without_labels_has_no_braces() {
        let text = family(&definition::DOWNSTREAM, |family| family.sample(&[], 3));
        assert!(text.ends_with("\nfcgimux_downstream_connections 3\n\n"), "{text}");
    }

    #[test]
    fn what_would_end_a_label_is_escaped() {
        let text = family(&definition::QUEUE_DEPTH, |family| family.sample(&["a\"b\\c\nd é"], 1));
        assert!(text.contains("{pool=\"a\\\"b\\\\c\\nd é\"} 1\n"), "{text}");
    }
}
