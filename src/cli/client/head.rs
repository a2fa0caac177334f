//! The header block of a CGI response (RFC 3875, section 6).

/// Bytes of the largest block that is kept; php-fpm's and every web server's are far smaller.
const AT_MOST: usize = 256 * 1024;

/// Takes in the block of one response.
#[derive(Debug, Default)]
pub(crate) struct Head {
    bytes: Vec<u8>,
    /// Characters in the line so far, without carriage returns.
    line: usize,
    whole: bool,
}

impl Head {
    /// Takes what belongs to the block from the start of `output`, and returns what stands behind it; `None` if the block
    /// does not end where any block should have ended.
    pub(crate) fn take<'a>(&mut self, output: &'a [u8]) -> Option<&'a [u8]> {
        if self.whole {
            return Some(output);
        }
        for (at, byte) in output.iter().enumerate() {
            match byte {
                b'\n' if self.line == 0 => {
                    self.whole = true;
                    self.bytes.extend_from_slice(&output[..=at]);
                    return Some(&output[at + 1..]);
                }
                b'\n' => self.line = 0,
                b'\r' => {}
                _ => self.line += 1,
            }
        }
        if self.bytes.len() + output.len() > AT_MOST {
            return None;
        }
        self.bytes.extend_from_slice(output);
        Some(&[])
    }

    pub(crate) fn is_whole(&self) -> bool {
        self.whole
    }

    /// As it came, the empty line included.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Names as they came, values without the blanks around them.
    pub(crate) fn fields(&self) -> Vec<(String, String)> {
        let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
        self.lines().map(|(name, value)| (text(name), text(value))).collect()
    }

    /// The first of this name, in any case.
    pub(crate) fn field(&self, name: &str) -> Option<String> {
        let found = self.lines().find(|(field, _)| field.eq_ignore_ascii_case(name.as_bytes()));
        found.map(|(_, value)| String::from_utf8_lossy(value).into_owned())
    }

    fn lines(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.bytes.split(|byte| *byte == b'\n').filter_map(|line| {
            let colon = line.iter().position(|byte| *byte == b':')?;
            Some((line[..colon].trim_ascii(), line[colon + 1..].trim_ascii()))
        })
    }

    /// 200 unless it says another, 302 for a place to go to (RFC 3875, 6.2.3 and 6.3.3), 0 for one that is no number.
    pub(crate) fn status(&self) -> u16 {
        match (self.field("Status"), self.field("Location")) {
            (Some(status), _) => status.split_whitespace().next().and_then(|word| word.parse().ok()).unwrap_or(0),
            (None, Some(_)) => 302,
            (None, None) => 200,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(parts: &[&str]) -> (Head, String) {
        let (mut head, mut body) = (Head::default(), vec![]);
        parts.iter().for_each(|part| body.extend_from_slice(head.take(part.as_bytes()).unwrap()));
        (head, String::from_utf8(body).unwrap())
    }

    #[test]
    fn a_block_ends_with_an_empty_line_wherever_it_is_cut() {
        for parts in
            [&["A: b\r\n\r\nbody"][..], &["A: b\n\nbody"], &["A: b\r", "\n\r", "\nbo", "dy"], &["A: b\n", "\nbody"]]
        {
            let (head, body) = read(parts);
            assert!(head.is_whole());
            assert_eq!((body.as_str(), head.field("a").as_deref()), ("body", Some("b")), "{parts:?}");
        }
        assert!(!read(&["A: b\r\n"]).0.is_whole());
    }

    #[test]
    fn a_status_is_said_or_follows() {
        for (block, status) in [
            ("\n", 200),
            ("Status: 404 Not Found\r\n\r\n", 404),
            ("STATUS:503\n\n", 503),
            ("Location: /a\n\n", 302),
            ("Status: 201\nLocation: /a\n\n", 201),
            ("Status: often\n\n", 0),
        ] {
            assert_eq!(read(&[block]).0.status(), status, "{block:?}");
        }
    }

    #[test]
    fn a_block_without_an_end_is_not_kept_for_ever() {
        let mut head = Head::default();
        let line = format!("A: {}\n", "b".repeat(1_000));
        let taken = (0..1_000).take_while(|_| head.take(line.as_bytes()).is_some()).count();
        assert!((200..300).contains(&taken), "{taken}");
    }
}
