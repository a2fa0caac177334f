//! A line of a frame: pieces of text that know how they are painted, cut to the width of the terminal.

use crate::cli::tool::visible;

/// How a piece is painted (SGR, ECMA-48). What it says stands in the text as well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Paint {
    Plain,
    Strong,
    Soft,
    Well,
    Warning,
    Bad,
}

impl Paint {
    fn code(self) -> &'static str {
        match self {
            Self::Plain => "",
            Self::Strong => "1",
            Self::Soft => "2",
            Self::Well => "32",
            Self::Warning => "1;33",
            Self::Bad => "1;31",
        }
    }
}

#[derive(Clone, Debug, Default)]
pub(super) struct Line {
    pieces: Vec<(Paint, String)>,
}

impl Line {
    pub(super) fn new(paint: Paint, text: impl AsRef<str>) -> Self {
        Self::default().and(paint, text)
    }

    /// One more piece. It may come from anywhere: what would steer the terminal, or turn the text around, is made visible.
    pub(super) fn and(mut self, paint: Paint, text: impl AsRef<str>) -> Self {
        self.pieces.push((paint, visible(text.as_ref())));
        self
    }

    /// Cut where it is too long for `width` columns.
    pub(super) fn text(&self, width: usize, color: bool) -> String {
        let length: usize = self.pieces.iter().map(|(_, text)| text.chars().count()).sum();
        let mut room = if length > width { width.saturating_sub(1) } else { length };
        let mut line = String::new();
        for (paint, text) in &self.pieces {
            let part: String = text.chars().take(room).collect();
            room -= part.chars().count();
            match paint.code() {
                code if color && !code.is_empty() && !part.is_empty() => line += &format!("\x1b[{code}m{part}\x1b[0m"),
                _ => line += &part,
            }
        }
        if length > width {
            line.push('…');
        }
        line.trim_end_matches(' ').to_owned()
    }
}

/// Cut to `width` columns, and filled up to them.
pub(super) fn column(text: &str, width: usize) -> String {
    let length = text.chars().count();
    if length > width {
        let cut: String = text.chars().take(width.saturating_sub(1)).collect();
        return format!("{cut}…");
    }
    format!("{text:width$}")
}

/// Puts parts together with `between`, a new line wherever the next would not fit.
pub(super) fn wrap(parts: impl IntoIterator<Item = String>, between: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = vec![];
    for part in parts {
        match lines.last_mut() {
            Some(line) if (line.chars().count() + between.len() + part.chars().count()) <= width => {
                *line += between;
                *line += &part;
            }
            _ => lines.push(part),
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_cut_to_the_width_whatever_its_colours() {
        let line = Line::new(Paint::Bad, "Saturated").and(Paint::Plain, " for 10 s");
        assert_eq!(line.text(80, false), "Saturated for 10 s");
        assert_eq!(line.text(12, false), "Saturated f…");
        assert_eq!(line.text(12, true), "\x1b[1;31mSaturated\x1b[0m f…");
        assert_eq!(line.text(4, true), "\x1b[1;31mSat\x1b[0m…");
    }

    #[test]
    fn what_would_steer_the_terminal_is_made_visible() {
        let line = Line::new(Paint::Plain, "a\x1b[2Jb\r\n\u{9b}c\u{202e}d é");
        assert_eq!(line.text(80, true), "a�[2Jb���c�d é");
    }

    #[test]
    fn parts_are_wrapped_between_each_other() {
        let parts = ["one", "two", "three"].map(str::to_owned);
        assert_eq!(wrap(parts.clone(), "  ", 8), ["one  two", "three"]);
        assert_eq!(wrap(parts.clone(), "  ", 2), ["one", "two", "three"]);
        assert_eq!(wrap(parts, " ", 80), ["one two three"]);
        assert_eq!((column("ab", 4), column("abcdef", 4)), ("ab  ".to_owned(), "abc…".to_owned()));
    }
}
