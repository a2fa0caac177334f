//! The trace that a request belongs to (W3C Trace Context, header `traceparent`).

/// Bytes of a `traceparent`: version, trace id, span id and flags in hexadecimal, with a dash between them.
const LEN: usize = 55;

/// Under which ids somebody else keeps a trace of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trace<'a> {
    /// 32 hexadecimal digits.
    pub trace_id: &'a str,
    /// That of the caller: 16 hexadecimal digits.
    pub span_id: &'a str,
}

impl<'a> Trace<'a> {
    /// `00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01`. `None` for anything else, which comes from whoever sent
    /// the request and is not to get into a log.
    pub fn parse(value: &'a [u8]) -> Option<Self> {
        let text = std::str::from_utf8(value).ok().filter(|text| text.len() == LEN)?;
        let mut parts = text.split('-');
        let parts = [parts.next()?, parts.next()?, parts.next()?, parts.next()?];
        let [version, trace_id, span_id, _flags] = parts;
        let digits = |part: &str| part.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        let is_set = |id: &str| id.bytes().any(|byte| byte != b'0');
        let sound = parts.map(str::len) == [2, 32, 16, 2] && parts.into_iter().all(digits);
        (sound && version != "ff" && is_set(trace_id) && is_set(span_id)).then_some(Self { trace_id, span_id })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn a_traceparent_holds_two_ids() {
        let trace = Trace { trace_id: "4bf92f3577b34da6a3ce929d0e0e4736", span_id: "00f067aa0ba902b7" };
        assert_eq!(Trace::parse(GOOD.as_bytes()), Some(trace));
        assert_eq!(Trace::parse(GOOD.replacen("00", "cc", 1).as_bytes()), Some(trace), "a later version");
    }

    #[test]
    fn anything_else_is_ignored() {
        for bad in [
            String::new(),
            GOOD[1..].to_owned(),
            format!("{GOOD}-"),
            GOOD.to_uppercase(),
            GOOD.replace('f', "g"),
            GOOD.replace('-', "_"),
            GOOD.replacen("00", "ff", 1),
            GOOD.replace("4bf92f3577b34da6a3ce929d0e0e4736", &"0".repeat(32)),
            GOOD.replace("00f067aa0ba902b7", &"0".repeat(16)),
            format!("0-{}", &GOOD[1..54]),
            "-".repeat(55),
            "é".repeat(27) + "a",
        ] {
            assert_eq!(Trace::parse(bad.as_bytes()), None, "{bad}");
        }
        assert_eq!(Trace::parse(&[0xff; 55]), None);
    }
}
