//! When a name is asked again, and what is believed of the answer.
//!
//! * **Addresses** are believed at once, and asked for again when they have lived as long as the server said: after a
//!   second at the earliest and after `refresh` at the latest, or when somebody could not connect.
//! * **No answer** (a timeout, SERVFAIL, a refusal) says nothing about the endpoints: those found before stay, however
//!   long it takes. The name is asked again after 1 s, later after up to 5 s.
//! * **"There is none"** (NXDOMAIN, or no record of the type) has two meanings. A Service whose pods are all gone says
//!   so, and a zone that was reloaded half or a server that has just started with nothing says so as well. To forget
//!   healthy pods on the latter's word would be an outage, while to keep dead ones costs failed connects that count
//!   against them alone. So it is believed only once nothing else was heard for 10 s, and three times at least.

use super::resolver::Trouble;
use crate::net::{
    clock,
    discovery::{Found, Sink},
};
use std::{
    future::Future,
    hash::{BuildHasher, RandomState},
    time::{Duration, Instant},
};

/// A name is asked no more often than this, however short its records live.
const EARLIEST: Duration = Duration::from_secs(1);
/// Pause behind a first failure; each one more doubles it.
const RETRY: Duration = Duration::from_secs(1);
/// Longest pause behind a failure, and behind an answer that is not believed yet.
const RETRY_AT_MOST: Duration = Duration::from_secs(5);
/// That there are no endpoints is believed once it was said for so long ...
const BELIEVED_AFTER: Duration = Duration::from_secs(10);
/// ... and so often.
const BELIEVED_ANSWERS: u32 = 3;

/// What is asked over and over.
pub(super) trait Question: Send {
    fn ask(&mut self) -> impl Future<Output = Result<Known, Trouble>> + Send;
}

/// Endpoints, and for how long that holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Known {
    pub(super) found: Vec<Found>,
    pub(super) lifetime: Duration,
}

/// What to do behind an answer.
#[derive(Debug, PartialEq, Eq)]
struct Step {
    tell: Tell,
    pause: Duration,
    /// A connect that fails is a reason to ask before the pause is over.
    hurries: bool,
}

#[derive(Debug, PartialEq, Eq)]
enum Tell {
    Found(Vec<Found>),
    Confirmed,
    Failed(String),
    /// The last endpoints are let go.
    Gone(String),
}

/// What was heard so far.
struct Course {
    refresh: Duration,
    /// Told last.
    known: Option<Vec<Found>>,
    /// Failures in a row.
    failures: u32,
    doubt: Option<Doubt>,
    random: RandomState,
}

/// "There is none" was said, and is not believed yet.
struct Doubt {
    since: Instant,
    answers: u32,
}

/// Asks until it is dropped.
pub(super) async fn watch(mut question: impl Question, refresh: Duration, sink: Sink) {
    let mut course = Course::new(refresh);
    loop {
        let answer = question.ask().await;
        let step = course.take(answer, clock::now());
        step.tell.to(&sink);
        let pause = tokio::time::sleep(step.pause);
        if step.hurries {
            tokio::select! {
                () = pause => {}
                () = sink.nudged() => {}
            }
        } else {
            pause.await;
        }
    }
}

impl Known {
    /// In an order of its own: servers rotate their answers. An address counts once, with its largest weight.
    pub(super) fn new(mut found: Vec<Found>, lifetime: Duration) -> Self {
        found.sort_by(|one, other| one.address.cmp(&other.address).then(other.weight.cmp(&one.weight)));
        found.dedup_by(|later, first| later.address == first.address);
        Self { found, lifetime }
    }
}

impl Tell {
    fn to(self, sink: &Sink) {
        match self {
            Self::Found(found) => sink.found(found),
            Self::Confirmed => sink.confirmed(),
            Self::Failed(words) => sink.failed(words),
            Self::Gone(words) => {
                let lasted = BELIEVED_AFTER.as_secs();
                sink.gone(format_args!("{words}, for {lasted} s now: it has no endpoints any more"));
            }
        }
    }
}

impl Course {
    fn new(refresh: Duration) -> Self {
        Self { refresh, known: None, failures: 0, doubt: None, random: RandomState::new() }
    }

    fn take(&mut self, answer: Result<Known, Trouble>, now: Instant) -> Step {
        match answer {
            Ok(Known { found, lifetime }) => self.some(found, lifetime),
            Err(Trouble::Nothing(words)) => self.nothing(words, now),
            Err(Trouble::Failed(words)) => self.failed(words),
        }
    }

    fn some(&mut self, found: Vec<Found>, lifetime: Duration) -> Step {
        self.failures = 0;
        self.doubt = None;
        let news = self.known.as_ref() != Some(&found);
        let tell = if news { Tell::Found(found.clone()) } else { Tell::Confirmed };
        self.known = Some(found);
        Step { tell, pause: lifetime.max(EARLIEST).min(self.refresh), hurries: true }
    }

    fn nothing(&mut self, words: String, now: Instant) -> Step {
        self.failures = 0;
        if self.known.as_ref().is_some_and(Vec::is_empty) {
            return Step { tell: Tell::Confirmed, pause: self.refresh, hurries: true };
        }
        let doubt = self.doubt.get_or_insert(Doubt { since: now, answers: 0 });
        doubt.answers += 1;
        if doubt.answers >= BELIEVED_ANSWERS && now - doubt.since >= BELIEVED_AFTER {
            self.doubt = None;
            self.known = Some(vec![]);
            return Step { tell: Tell::Gone(words), pause: self.refresh, hurries: true };
        }
        let words = format!("{words}; that is believed once it lasts for {} s", BELIEVED_AFTER.as_secs());
        let pause = self.refresh.min(RETRY_AT_MOST);
        Step { tell: Tell::Failed(words), pause, hurries: false }
    }

    fn failed(&mut self, words: String) -> Step {
        self.doubt = None;
        let longest = RETRY.saturating_mul(1 << self.failures.min(8)).min(RETRY_AT_MOST);
        self.failures = self.failures.saturating_add(1);
        // Not all sidecars at the same moment, who fail together when a server does: between 3/4 and the whole of it.
        let share = 192 + u32::try_from(self.random.hash_one(self.failures) % 65).unwrap_or(64);
        Step { tell: Tell::Failed(words), pause: longest * share / 256, hurries: false }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::EndpointAddress;

    const SECOND: Duration = Duration::from_secs(1);

    fn found(hosts: &[u8]) -> Vec<Found> {
        let address = |host: &u8| EndpointAddress::Tcp(([10, 0, 0, *host], 9000).into());
        hosts.iter().map(|host| Found { address: address(host), weight: 1, zones: vec![], leaving: false }).collect()
    }

    fn known(hosts: &[u8], seconds: u64) -> Result<Known, Trouble> {
        Ok(Known::new(found(hosts), Duration::from_secs(seconds)))
    }

    fn nothing() -> Result<Known, Trouble> {
        Err(Trouble::Nothing("php does not exist".into()))
    }

    fn failed() -> Result<Known, Trouble> {
        Err(Trouble::Failed("timed out".into()))
    }

    /// Gives what was told to each answer, each taken when the pause behind the one before is over.
    fn told(course: &mut Course, now: &mut Instant, answers: Vec<Result<Known, Trouble>>) -> Vec<Tell> {
        let mut told = vec![];
        for answer in answers {
            let step = course.take(answer, *now);
            *now += step.pause;
            told.push(step.tell);
        }
        told
    }

    #[test]
    fn a_name_is_asked_again_when_its_records_expire_within_a_second_and_the_refresh() {
        let mut course = Course::new(5 * SECOND);
        for (lifetime, pause) in [(0, 1), (1, 1), (3, 3), (5, 5), (86_400, 5)] {
            let step = course.take(known(&[1], lifetime), clock::now());
            assert_eq!((step.pause, step.hurries), (pause * SECOND, true), "{lifetime}");
        }
    }

    #[test]
    fn the_same_addresses_in_another_order_are_no_news() {
        let (mut course, mut now) = (Course::new(SECOND), clock::now());
        let answers = vec![known(&[1, 2], 1), known(&[2, 1], 1), known(&[2, 1, 2], 1), known(&[2], 1), known(&[2], 1)];
        let told = told(&mut course, &mut now, answers);
        let same = || Tell::Confirmed;
        assert_eq!(told, [Tell::Found(found(&[1, 2])), same(), same(), Tell::Found(found(&[2])), same()]);
    }

    #[test]
    fn an_address_with_two_weights_counts_with_the_larger() {
        let mut twice = found(&[1, 1]);
        twice[1].weight = 7;
        assert_eq!(Known::new(twice.clone(), SECOND).found, &twice[1..]);
    }

    #[test]
    fn no_answer_changes_nothing_however_long_it_lasts() {
        let (mut course, mut now) = (Course::new(60 * SECOND), clock::now());
        course.take(known(&[1], 1), now);
        for _ in 0..100 {
            let step = course.take(failed(), now);
            assert_eq!(step.tell, Tell::Failed("timed out".into()));
            now += step.pause;
        }
        assert_eq!(course.take(known(&[1], 1), now).tell, Tell::Confirmed);
    }

    #[test]
    fn pauses_behind_failures_grow_to_five_seconds_and_begin_anew_behind_an_answer() {
        let mut course = Course::new(60 * SECOND);
        for _ in 0..2 {
            for longest in [1, 2, 4, 5, 5, 5, 5, 5, 5, 5, 5, 5] {
                let pause = course.take(failed(), clock::now()).pause;
                assert!((longest * SECOND * 3 / 4..=longest * SECOND).contains(&pause), "{pause:?} of {longest} s");
            }
            course.take(known(&[1], 1), clock::now());
        }
    }

    #[test]
    fn that_there_is_none_is_believed_once_it_has_lasted() {
        for (refresh, at) in [(1, 10), (2, 10), (3, 12), (5, 10), (60, 10)] {
            let (mut course, mut now) = (Course::new(Duration::from_secs(refresh)), clock::now());
            course.take(known(&[1], 1), now);
            let start = now;
            let mut answers = 0;
            while course.known != Some(vec![]) {
                answers += 1;
                let step = course.take(nothing(), now);
                match step.tell {
                    Tell::Gone(_) => assert_eq!(now - start, Duration::from_secs(at), "refresh {refresh}"),
                    Tell::Failed(words) => {
                        assert_eq!(words, "php does not exist; that is believed once it lasts for 10 s")
                    }
                    other => panic!("{other:?}"),
                }
                now += step.pause;
            }
            assert!(answers >= BELIEVED_ANSWERS);
            assert_eq!(
                told(&mut course, &mut now, vec![nothing(), known(&[1], 1)]),
                [Tell::Confirmed, Tell::Found(found(&[1])),]
            );
        }
    }

    #[test]
    fn anything_else_in_between_makes_the_doubt_begin_anew() {
        for between in [failed(), known(&[1], 1)] {
            let (mut course, mut now) = (Course::new(5 * SECOND), clock::now());
            let first = vec![known(&[1], 1), nothing(), nothing(), between, nothing(), nothing()];
            told(&mut course, &mut now, first);
            assert_eq!(course.known, Some(found(&[1])));
            assert_eq!(told(&mut course, &mut now, vec![nothing()]), [Tell::Gone("php does not exist".into())]);
        }
    }

    #[test]
    fn a_name_that_never_was_is_no_success_until_it_is_believed() {
        let (mut course, mut now) = (Course::new(5 * SECOND), clock::now());
        let told = told(&mut course, &mut now, vec![nothing(), nothing(), nothing()]);
        assert!(matches!(told[..], [Tell::Failed(_), Tell::Failed(_), Tell::Gone(_)]), "{told:?}");
    }
}
