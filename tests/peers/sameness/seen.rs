//! What a client saw on one side.

use std::{fmt::Display, time::Duration};

use sha2::{Digest, Sha256};

use super::{
    case::Bodies,
    client::{Answer, Ending},
};
use crate::support::fcgi::Reply;

/// Differ from one answer to the next whatever answers.
const OWN_HEADERS: [&str; 1] = ["date"];

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
        let [mut direct, mut other] = [self.lines(bodies), through.lines(bodies)];
        let count = direct.len().max(other.len());
        direct.resize(count, String::new());
        other.resize(count, String::new());
        let pairs = direct.into_iter().zip(other);
        pairs.filter(|(one, two)| one != two).map(|(one, two)| format!("direct  {one}\n    through {two}")).collect()
    }

    fn lines(&self, bodies: Bodies) -> Vec<String> {
        let mut lines = Vec::new();
        for (number, answer) in self.answers.iter().enumerate() {
            let at = format!("answer {}", number + 1);
            lines.push(format!("{at}: {:?}, {}", answer.ending, answer.status_line));
            let headers =
                answer.headers.iter().filter(|(name, _)| !OWN_HEADERS.iter().any(|own| name.eq_ignore_ascii_case(own)));
            let headers: Vec<_> = headers.map(|(name, value)| format!("{name}: {value}")).collect();
            lines.push(format!("{at}: headers {}", self.neutral(&headers.join(" | "))));
            lines.extend(self.body_lines(&at, answer, bodies));
        }
        lines.extend(self.facts.iter().map(|(name, value)| format!("{name}: {}", self.neutral(value))));
        lines
    }

    fn body_lines(&self, at: &str, answer: &Answer, bodies: Bodies) -> Vec<String> {
        if bodies == Bodies::Some && answer.ending != Ending::Whole {
            return vec![format!("{at}: body {}", if answer.body.is_empty() { "empty" } else { "begun" })];
        }
        match std::str::from_utf8(&answer.body) {
            Ok(text) if text.len() < 10_000 => {
                self.neutral(text).lines().map(|line| format!("{at}: body {line:?}")).collect()
            }
            _ => {
                let sum: String = Sha256::digest(&answer.body).iter().map(|byte| format!("{byte:02x}")).collect();
                vec![format!("{at}: body of {} bytes, {sum}", answer.body.len())]
            }
        }
    }

    /// Without what belongs to the side alone.
    fn neutral(&self, text: &str) -> String {
        self.own.iter().fold(text.to_owned(), |text, (own, word)| text.replace(own.as_str(), word))
    }
}
