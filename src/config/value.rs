//! Durations, sizes, counts and the like: how they are read, how they are refused, and how they are written again.
//!
//! A reader takes a [`Node`] and gives the value, or a sentence that says what to write instead.

use std::{ops::RangeInclusive, time::Duration};

use super::node::{Node, quoted};

const DURATION_UNITS: &[(&str, u64)] =
    &[("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 60 * 60_000), ("d", 24 * 60 * 60_000)];
const SIZE_UNITS: &[(&str, u64)] = &[("B", 1), ("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30)];

/// What people write for "no limit" elsewhere; none of it exists here.
const NO_LIMIT: &[&str] = &["unlimited", "infinite", "infinity", "inf", "none", "never", "no", "disabled"];

/// As a flag of the command line says it: from a millisecond to a day.
///
/// # Errors
/// A sentence that says what to write instead.
pub fn duration_from_text(text: &str) -> Result<Duration, String> {
    const DAY: Duration = Duration::from_secs(24 * 60 * 60);
    duration(Duration::from_millis(1)..=DAY)(&Node::text(text))
}

pub(super) fn duration(range: RangeInclusive<Duration>) -> impl Fn(&Node) -> Result<Duration, String> {
    move |node| {
        let value = Duration::from_millis(with_unit(node, DURATION_UNITS, "a duration", "5s")?);
        in_range(value, &range, |value| duration_text(*value))
    }
}

pub(super) fn size(range: RangeInclusive<u64>) -> impl Fn(&Node) -> Result<u64, String> {
    move |node| in_range(with_unit(node, SIZE_UNITS, "a size", "64KiB")?, &range, |value| size_text(*value))
}

pub(super) fn count(range: RangeInclusive<u64>) -> impl Fn(&Node) -> Result<u64, String> {
    move |node| match node {
        // A number below zero or above u64 is out of every range.
        Node::Integer(value) => match u64::try_from(*value) {
            Ok(value) => in_range(value, &range, u64::to_string),
            Err(_) => Err(out_of_range(value, &range, u64::to_string)),
        },
        Node::Text(text) if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) => {
            Err(format!("{node} is text; write the number without quotes and without leading zeros"))
        }
        Node::Text(text) if NO_LIMIT.contains(&text.as_str()) => {
            Err(format!("{text} does not exist here; write a number from {} to {}", range.start(), range.end()))
        }
        _ => Err(format!("{node} is not a whole number; write one from {} to {}", range.start(), range.end())),
    }
}

pub(super) fn small_count(range: RangeInclusive<u32>) -> impl Fn(&Node) -> Result<u32, String> {
    let read = count(u64::from(*range.start())..=u64::from(*range.end()));
    // The range ends within u32, so nothing is ever cut off here.
    move |node| read(node).map(|value| u32::try_from(value).unwrap_or(u32::MAX))
}

pub(super) fn port(node: &Node) -> Result<u16, String> {
    // The range ends within u16, so nothing is ever cut off here.
    count(1..=u64::from(u16::MAX))(node).map(|port| u16::try_from(port).unwrap_or(u16::MAX))
}

/// A value or the word `off`.
///
/// `false` is taken for `off`: programs that speak YAML 1.1 (Helm among them) read the plain word as a boolean and write
/// that out again, and the operator never wrote `false`.
pub(super) fn or_off<T>(read: impl Fn(&Node) -> Result<T, String>) -> impl Fn(&Node) -> Result<Option<T>, String> {
    move |node| match node {
        Node::Bool(false) => Ok(None),
        Node::Text(text) if text == "off" => Ok(None),
        Node::Integer(..=0) => Err(format!("{node} does not mean off here; write off")),
        Node::Text(text) if is_zero(text) || NO_LIMIT.contains(&text.as_str()) => {
            Err(format!("{node} does not mean off here; write off"))
        }
        _ => read(node).map(Some).map_err(|message| format!("{message}; or off")),
    }
}

pub(super) fn switch(node: &Node) -> Result<bool, String> {
    match node {
        Node::Bool(value) => Ok(*value),
        _ => Err(format!("{node} is neither true nor false")),
    }
}

/// A share from 0.0 to 1.0, of which the whole is `on`; `true` is taken for that, see [`or_off`].
pub(super) fn on_or_percent(node: &Node) -> Result<f64, String> {
    match node {
        Node::Bool(true) => Ok(1.0),
        Node::Text(text) if text == "on" => Ok(1.0),
        _ => percent(node).map_err(|message| format!("{message}; or on")),
    }
}

/// As [`on_or_percent`] reads it.
pub(super) fn on_or_percent_text(share: f64) -> String {
    if share >= 1.0 { "on".to_owned() } else { percent_text(share) }
}

/// A percentage as a share from 0.0 to 1.0.
pub(super) fn percent(node: &Node) -> Result<f64, String> {
    const EXAMPLE: &str = "write a percentage from 0% to 100%, such as 20%";
    let Node::Text(text) = node else { return Err(format!("{node} has no percent sign; {EXAMPLE}")) };
    let Some(number) = text.strip_suffix('%') else {
        return Err(format!("{node} has no percent sign; {EXAMPLE}"));
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
    let digits = |part: &str| (1..=3).contains(&part.len()) && part.bytes().all(|byte| byte.is_ascii_digit());
    if !digits(whole) || !digits(fraction) {
        return Err(format!("{node} is no percentage; {EXAMPLE}"));
    }
    match number.parse::<f64>() {
        Ok(value) if value <= 100.0 => Ok(value / 100.0),
        _ => Err(format!("{node} is more than 100%; {EXAMPLE}")),
    }
}

/// Permission bits, written in octal and as text.
///
/// A number is refused because readers of YAML disagree on what `0660` is: octal in YAML 1.1, text in 1.2; and `660` is
/// decimal in both.
pub(super) fn mode(node: &Node) -> Result<u32, String> {
    const EXAMPLE: &str = "write the octal permission bits in quotes, such as \"0660\"";
    let Node::Text(text) = node else { return Err(format!("{node} is not text; {EXAMPLE}")) };
    let octal = (3..=4).contains(&text.len()) && text.bytes().all(|byte| (b'0'..=b'7').contains(&byte));
    match u32::from_str_radix(text, 8) {
        Ok(bits) if octal && bits <= 0o777 => Ok(bits),
        Ok(_) if octal => Err(format!("{node} is more than 0777; {EXAMPLE}")),
        _ => Err(format!("{node} is not a file mode; {EXAMPLE}")),
    }
}

/// As [`duration`] reads it. Whole milliseconds are all it can say.
pub(super) fn duration_text(value: Duration) -> String {
    largest_unit(u64::try_from(value.as_millis()).unwrap_or(u64::MAX), DURATION_UNITS, "s")
}

/// As [`size`] reads it.
pub(super) fn size_text(value: u64) -> String {
    largest_unit(value, SIZE_UNITS, "B")
}

/// As [`percent`] reads it: to a thousandth of a percent, which is as fine as it can be written.
pub(super) fn percent_text(share: f64) -> String {
    format!("{}%", (share * 100_000.0).round() / 1000.0)
}

fn with_unit(node: &Node, units: &[(&str, u64)], what: &str, example: &str) -> Result<u64, String> {
    let names: Vec<&str> = units.iter().map(|(unit, _)| *unit).collect();
    let names = names.join(", ");
    let text = match node {
        Node::Text(text) => text.as_str(),
        Node::Integer(..0) => return Err(format!("{node} is negative; write {what} such as {example}")),
        Node::Integer(_) | Node::Float(_) => {
            return Err(format!("{node} has no unit; write {what} such as {example} (units: {names})"));
        }
        _ => return Err(format!("{node} is not {what}; write one such as {example} (units: {names})")),
    };
    if NO_LIMIT.contains(&text) || text == "off" {
        return Err(format!("{text} does not exist here; write {what} such as {example}"));
    }
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    if number.is_empty() {
        let negative = if text.starts_with('-') { "negative" } else { "not a number with a unit" };
        return Err(format!("{} is {negative}; write {what} such as {example} (units: {names})", quoted(text)));
    }
    if unit.is_empty() {
        return Err(format!("{} has no unit; write {what} such as {example} (units: {names})", quoted(text)));
    }
    let Some((_, factor)) = units.iter().find(|(name, _)| *name == unit) else {
        return Err(format!(
            "{} has a unit that does not exist; write one whole number and one of: {names}, such as {example}",
            quoted(text)
        ));
    };
    let value = number.parse::<u64>().ok().and_then(|number| number.checked_mul(*factor));
    value.ok_or_else(|| format!("{} is too large", quoted(text)))
}

fn in_range<T: PartialOrd>(value: T, range: &RangeInclusive<T>, show: impl Fn(&T) -> String) -> Result<T, String> {
    if range.contains(&value) { Ok(value) } else { Err(out_of_range(show(&value), range, show)) }
}

fn out_of_range<T>(value: impl std::fmt::Display, range: &RangeInclusive<T>, show: impl Fn(&T) -> String) -> String {
    format!("{value} is out of range; write {} to {}", show(range.start()), show(range.end()))
}

/// "0", "0s", "0KiB", "-1": what other programs take for off.
fn is_zero(text: &str) -> bool {
    let digits = text.strip_prefix('-').unwrap_or(text);
    let number = digits.trim_end_matches(|character: char| character.is_ascii_alphabetic());
    number == "0" || (text.starts_with('-') && number == "1")
}

fn largest_unit(value: u64, units: &[(&str, u64)], unit_of_zero: &str) -> String {
    match units.iter().rev().find(|(_, factor)| value > 0 && value.is_multiple_of(*factor)) {
        Some((unit, factor)) => format!("{}{unit}", value / factor),
        None => format!("0{unit_of_zero}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANY: RangeInclusive<Duration> = Duration::ZERO..=Duration::MAX;

    fn duration_of(text: &str) -> Result<Duration, String> {
        duration(ANY)(&Node::text(text))
    }

    #[test]
    fn durations_carry_their_unit() {
        for (text, milliseconds) in
            [("250ms", 250), ("1500ms", 1500), ("5s", 5000), ("1m", 60_000), ("1h", 3_600_000), ("2d", 172_800_000)]
        {
            assert_eq!(duration_of(text), Ok(Duration::from_millis(milliseconds)), "{text}");
        }
    }

    #[test]
    fn sizes_carry_their_unit() {
        let read = size(0..=u64::MAX);
        for (text, bytes) in [("500B", 500), ("64KiB", 65_536), ("8MiB", 8 << 20), ("1GiB", 1 << 30)] {
            assert_eq!(read(&Node::text(text)), Ok(bytes), "{text}");
        }
        for text in ["64K", "64KB", "64kib", "1.5MiB", "1 MiB", "MiB", "", "1GiBx"] {
            assert!(read(&Node::text(text)).is_err(), "{text}");
        }
    }

    #[test]
    fn a_bare_number_is_refused_with_the_unit_to_write() {
        let message = duration(ANY)(&Node::Integer(5)).unwrap_err();
        assert_eq!(message, "5 has no unit; write a duration such as 5s (units: ms, s, m, h, d)");
        let message = size(0..=10)(&Node::text("64")).unwrap_err();
        assert_eq!(message, "`64` has no unit; write a size such as 64KiB (units: B, KiB, MiB, GiB)");
    }

    #[test]
    fn no_number_overflows() {
        assert!(duration_of("99999999999999999999s").is_err());
        assert!(duration_of("18446744073709551615d").is_err());
        assert!(count(1..=5)(&Node::Integer(i128::MAX)).is_err());
        assert!(count(1..=5)(&Node::Integer(-1)).is_err());
    }

    #[test]
    fn negative_and_compound_durations_are_refused() {
        assert!(duration_of("-5s").unwrap_err().contains("negative"));
        assert!(duration_of("1h30m").unwrap_err().contains("one whole number"));
        assert!(duration(ANY)(&Node::Integer(-5)).unwrap_err().contains("negative"));
    }

    #[test]
    fn off_is_taken_only_where_something_can_be_off() {
        let read = or_off(duration(ANY));
        assert_eq!(read(&Node::text("off")), Ok(None));
        assert_eq!(read(&Node::Bool(false)), Ok(None), "what Helm makes of the plain word");
        assert_eq!(read(&Node::text("5s")), Ok(Some(Duration::from_secs(5))));
        assert!(duration_of("off").unwrap_err().contains("does not exist here"));
        assert!(read(&Node::Bool(true)).is_err());
    }

    #[test]
    fn zero_minus_one_and_unlimited_are_answered_with_off() {
        let read = or_off(duration(ANY));
        for node in [Node::Integer(0), Node::Integer(-1), Node::text("0s"), Node::text("-1"), Node::text("unlimited")] {
            assert!(read(&node).unwrap_err().ends_with("write off"), "{node}");
        }
        assert!(read(&Node::Integer(5)).unwrap_err().ends_with("or off"));
    }

    #[test]
    fn a_value_out_of_range_is_refused_with_the_range() {
        let message = small_count(1..=64)(&Node::Integer(65)).unwrap_err();
        assert_eq!(message, "65 is out of range; write 1 to 64");
        let range = Duration::from_millis(1)..=Duration::from_secs(60);
        assert_eq!(duration(range)(&Node::text("0s")).unwrap_err(), "0s is out of range; write 1ms to 1m");
    }

    #[test]
    fn a_share_is_a_percentage() {
        assert_eq!(percent(&Node::text("20%")), Ok(0.2));
        assert_eq!(percent(&Node::text("0%")), Ok(0.0));
        assert_eq!(percent(&Node::text("100%")), Ok(1.0));
        for text in ["20", "0.2", "101%", "-1%", "%", "1e2%", "NaN%", "1.%", ".5%", "1.2345%"] {
            assert!(percent(&Node::text(text)).is_err(), "{text}");
        }
        assert!(percent(&Node::Float(0.2)).is_err());
    }

    #[test]
    fn a_share_may_be_all_or_none() {
        let read = or_off(on_or_percent);
        for (node, share) in [
            (Node::text("on"), Some(1.0)),
            (Node::Bool(true), Some(1.0)),
            (Node::text("off"), None),
            (Node::Bool(false), None),
            (Node::text("1%"), Some(0.01)),
            (Node::text("0%"), Some(0.0)),
        ] {
            assert_eq!(read(&node), Ok(share), "{node}");
            if let Some(share) = share {
                assert_eq!(read(&Node::text(on_or_percent_text(share))), Ok(Some(share)));
            }
        }
        for node in [Node::Integer(1), Node::Float(0.01), Node::text("yes"), Node::text("101%"), Node::Null] {
            assert!(read(&node).unwrap_err().ends_with("; or on; or off"), "{node}");
        }
    }

    #[test]
    fn a_mode_is_octal_text() {
        assert_eq!(mode(&Node::text("0660")), Ok(0o660));
        assert_eq!(mode(&Node::text("666")), Ok(0o666));
        assert!(mode(&Node::Integer(660)).unwrap_err().contains("in quotes"));
        for text in ["1777", "0888", "rw-rw----", "", "+660", "00660"] {
            assert!(mode(&Node::text(text)).is_err(), "{text}");
        }
    }

    #[test]
    fn what_is_written_is_read_back() {
        for milliseconds in [0, 1, 999, 1000, 1500, 60_000, 61_000, 3_600_000, 86_400_000, 31_536_000_000] {
            let value = Duration::from_millis(milliseconds);
            assert_eq!(duration_of(&duration_text(value)), Ok(value));
        }
        for bytes in [0, 1, 1023, 1024, 1025, 1 << 20, 3 << 30, u64::MAX] {
            assert_eq!(size(0..=u64::MAX)(&Node::text(size_text(bytes))), Ok(bytes));
        }
        for thousandth in 0..=100_000 {
            let text = format!("{}.{:03}%", thousandth / 1000, thousandth % 1000);
            let share = percent(&Node::text(text)).unwrap();
            assert_eq!(percent(&Node::text(percent_text(share))), Ok(share));
        }
    }
}
