//! Just enough of HTML to fill in a form: tags, their attributes, and text without its entities.

use std::ops::Range;

pub(super) struct Tag<'p> {
    /// In lower case, with its slash where it ends an element: `input`, `/form`.
    pub(super) name: String,
    attributes: &'p str,
    /// Where it stands in the page.
    pub(super) at: Range<usize>,
}

impl Tag<'_> {
    /// None where the attribute is missing; empty where it has no value.
    pub(super) fn attribute(&self, wanted: &str) -> Option<String> {
        let mut rest = self.attributes.trim_start();
        while !rest.is_empty() {
            let name_end = rest.find(|letter: char| letter == '=' || letter.is_whitespace()).unwrap_or(rest.len());
            let (name, behind) = rest.split_at(name_end);
            let (value, next) = match behind.trim_start().strip_prefix('=') {
                Some(behind) => read_value(behind.trim_start()),
                None => ("", behind),
            };
            if name.eq_ignore_ascii_case(wanted) {
                return Some(plain(value));
            }
            rest = next.trim_start_matches(['/', '=']).trim_start();
        }
        None
    }

    pub(super) fn has(&self, attribute: &str) -> bool {
        self.attribute(attribute).is_some()
    }
}

/// All tags of a page in their order; what scripts and styles hold is none.
pub(super) fn tags(page: &str) -> Vec<Tag<'_>> {
    let mut tags = Vec::new();
    let mut at = 0;
    while let Some(start) = page[at..].find('<').map(|offset| at + offset) {
        let inside = &page[start + 1..];
        if !inside.starts_with(|letter: char| letter.is_ascii_alphabetic() || letter == '/') {
            at = start + 1;
            continue;
        }
        let length = tag_length(inside);
        let (text, end) = (&inside[..length], start + 1 + length);
        let name_end = text.find(|letter: char| letter.is_whitespace() || letter == '>').unwrap_or(text.len());
        let name = text[..name_end].to_ascii_lowercase();
        at = match name.as_str() {
            "script" | "style" => page[end..].find(&format!("</{name}")).map_or(page.len(), |offset| end + offset),
            _ => end,
        };
        tags.push(Tag {
            name,
            attributes: text[name_end..].trim_end_matches('/'),
            at: start..(end + 1).min(page.len()),
        });
    }
    tags
}

/// Text as it is shown.
pub(super) fn plain(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = rest.find('&') {
        plain.push_str(&rest[..start]);
        rest = &rest[start..];
        let entity = rest.find(';').filter(|end| *end < 10).and_then(|end| Some((entity(&rest[1..end])?, end + 1)));
        let (letter, length) = entity.unwrap_or(('&', 1));
        plain.push(letter);
        rest = &rest[length..];
    }
    plain + rest
}

fn entity(name: &str) -> Option<char> {
    let number = |digits: &str, radix| char::from_u32(u32::from_str_radix(digits, radix).ok()?);
    match name {
        "amp" => Some('&'),
        "lt" => Some('<'),
        "gt" => Some('>'),
        "quot" => Some('"'),
        _ => match name.strip_prefix('#')? {
            hex if hex.starts_with(['x', 'X']) => number(&hex[1..], 16),
            decimal => number(decimal, 10),
        },
    }
}

/// Up to the `>` that ends the tag, which is not one in quotes.
fn tag_length(inside: &str) -> usize {
    let mut quote = None;
    for (at, letter) in inside.char_indices() {
        match (quote, letter) {
            (None, '>') => return at,
            (None, '"' | '\'') => quote = Some(letter),
            (Some(open), _) if open == letter => quote = None,
            _ => {}
        }
    }
    inside.len()
}

/// An attribute's value and what is behind it.
fn read_value(text: &str) -> (&str, &str) {
    for quote in ['"', '\''] {
        if let Some(inside) = text.strip_prefix(quote) {
            return inside.split_once(quote).unwrap_or((inside, ""));
        }
    }
    text.split_at(text.find(char::is_whitespace).unwrap_or(text.len()))
}
