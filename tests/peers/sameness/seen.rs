//! What a client saw on one side.

use std::{fmt::Display, time::Duration};

use sha2::{Digest, Sha256};

use super::{
    case::Bodies,
    client::{Answer, Ending},
};
use crate::support::fcgi::Reply;

/// Differ from one answer to the next, or from one file to the next, whatever answers.
const OWN_HEADERS: [&str; 3] = ["date", "etag", "last-modified"];

/// How a body is framed.
const FRAMING: [&str; 3] = ["content-length", "transfer-encoding", "accept-ranges"];
/// Of a body that is cut off.
const NONE: &str = "none";
const BEGUN: &str = "has begun";

#[derive(Clone, Debug, Default)]
pub(crate) struct Seen {
    answers: Vec<Answer>,
    /// What else is compared, by name.
    facts: Vec<(String, String)>,
    pub(crate) took: Duration,
    /// Why it was not in time, where that is not told by how long it took.
    pub(crate) late: Option<String>,
    /// What of its texts stands for the same on both sides: folders and ports.
    pub(crate) own: Vec<(String, &'static str)>,
    /// Whether the web server says the length of a response if it has all of it in time, and sends chunks otherwise.
    pub(crate) frames_by_time: bool,
}

impl FromIterator<Answer> for Seen {
    fn from_iter<I: IntoIterator<Item = Answer>>(answers: I) -> Self {
        Self { answers: answers.into_iter().collect(), ..Self::default() }
    }
}

impl Seen {
    pub(crate) fn and(mut self, name: &str, value: impl Display) -> Self {
        self.facts.push((name.to_owned(), value.to_string()));
        self
    }

    /// A response over FastCGI.
    pub(crate) fn of_reply(reply: &Reply) -> Self {
        let head = String::from_utf8_lossy(&reply.stdout[..reply.stdout.len() - reply.body().len()]).into_owned();
        let seen =
            Self::default().and("head", format!("{head:?}")).and("STDERR", String::from_utf8_lossy(&reply.stderr));
        let seen = seen.and("ended", reply.ended).and("ids", format!("{:?}", reply.ids));
        seen.and("status", format!("{:?}", reply.status)).and("body", reply.text())
    }

    pub(crate) fn late(mut self, words: Option<String>) -> Self {
        self.late = words;
        self
    }

    pub(crate) fn last(&self) -> Option<&Answer> {
        self.answers.last()
    }

    /// Everything that is not the same, a line each.
    pub(crate) fn differences(&self, through: &Self, bodies: Bodies) -> Vec<String> {
        let [direct, other] = [self.all(bodies), through.all(bodies)];
        let missing = direct.iter().filter(|(name, _)| !other.iter().any(|(same, _)| same == name));
        let missing = missing.map(|(name, value)| format!("{name}: directly {value}, and nothing through fcgimux"));
        // More of a body that is cut off is no harm.
        let more = |found: Option<&str>, value: &str| bodies == Bodies::Some && found == Some(NONE) && value == BEGUN;
        let differ = other.iter().filter_map(|(name, value)| {
            let found = direct.iter().find(|(same, _)| same == name).map(|(_, value)| value.as_str());
            (found != Some(value) && !more(found, value)).then(|| differ(name, found.unwrap_or("nothing"), value))
        });
        missing.chain(differ).collect()
    }

    /// All that is compared, by name.
    fn all(&self, bodies: Bodies) -> Vec<(String, String)> {
        let mut all = Vec::new();
        for (number, answer) in self.answers.iter().enumerate() {
            let mut note = |name: &str, value: String| all.push((format!("{name} of answer {}", number + 1), value));
            note("end", format!("{:?}", answer.ending));
            note("status", answer.status_line.clone());
            let framing = if self.frames_by_time { &FRAMING[..] } else { &[] };
            let kept = |name: &str| !OWN_HEADERS.iter().chain(framing).any(|own| name.eq_ignore_ascii_case(own));
            let headers = answer.headers.iter().filter(|(name, _)| kept(name));
            let headers: Vec<_> = headers.map(|(name, value)| format!("{name}: {value}")).collect();
            note("headers", self.neutral(&headers.join("\n")));
            note("body", self.body_of(answer, bodies));
        }
        all.extend(self.facts.iter().map(|(name, value)| (name.clone(), self.neutral(value))));
        all
    }

    fn body_of(&self, answer: &Answer, bodies: Bodies) -> String {
        if bodies == Bodies::Some && answer.ending != Ending::Whole {
            return if answer.body.is_empty() { NONE } else { BEGUN }.to_owned();
        }
        let sum = |bytes: &[u8]| {
            let sum: String = Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
            format!("{} bytes, {sum}", bytes.len())
        };
        match std::str::from_utf8(&answer.body) {
            Ok(text) if text.len() < 10_000 => self.neutral(text),
            Ok(text) => sum(self.neutral(text).as_bytes()),
            Err(_) => sum(&answer.body),
        }
    }

    /// Without what belongs to the side alone.
    fn neutral(&self, text: &str) -> String {
        self.own.iter().fold(text.to_owned(), |text, (own, word)| text.replace(own.as_str(), word))
    }
}

/// The first line that is not the same.
fn differ(name: &str, direct: &str, through: &str) -> String {
    let lines = |text: &str| text.lines().map(str::to_owned).collect::<Vec<_>>();
    let (direct, through) = (lines(direct), lines(through));
    let at = direct.iter().zip(&through).take_while(|(one, two)| one == two).count();
    let line = |lines: &[String]| {
        lines.get(at).map_or_else(|| "(no more)".to_owned(), |line| line.chars().take(300).collect())
    };
    format!("{name}: directly {:?}, through fcgimux {:?}", line(&direct), line(&through))
}
