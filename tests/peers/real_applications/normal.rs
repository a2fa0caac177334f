//! Texts without what differs from one installation to the next: addresses, folders, times, and what is drawn at random.

/// Times and what is random become this.
const MARK: &str = "#";
const MONTHS: [&str; 12] = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
const DAYS: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];
/// Numbers behind these words say how long something took.
const MEASURED: [&str; 3] = ["wgBackendResponseTime", "cputime", "walltime"];

/// What an installation calls its own.
#[derive(Clone, Debug, Default)]
pub(super) struct Names(Vec<(String, &'static str)>);

impl Names {
    /// From now on this text reads as that one, also where it stands in an address or in JSON.
    pub(super) fn read(mut self, text: &str, instead: &'static str) -> Self {
        let forms = [text.to_owned(), text.replace('/', "\\/"), super::form::escape(text)];
        self.0.extend(forms.into_iter().map(|form| (form, instead)));
        self
    }

    /// Where a text differs from that of another installation, by more than names, times and what is random.
    pub(super) fn difference(&self, text: &str, others: &Self, other: &str) -> Option<String> {
        let (text, other) = (self.own(text), others.own(other));
        let lines = |text: &str| text.lines().count();
        if lines(&text) != lines(&other) {
            return Some(parting(&without_times(&text), &without_times(&other)));
        }
        let pairs = text.lines().zip(other.lines()).filter(|(line, other)| line != other);
        let mut normal = pairs.map(|(line, other)| (without_times(line), without_times(other)));
        normal.find(|(line, other)| line != other).map(|(line, other)| parting(&line, &other))
    }

    /// By the names of every installation, and without what is drawn in other ways than as a word.
    fn own(&self, text: &str) -> String {
        let text = self.0.iter().fold(text.to_owned(), |text, (from, to)| text.replace(from, to));
        let text = text.replace("%3A", ":").replace("%2C", ",");
        CUT.iter().fold(text, |text, (start, end)| cut(&text, start, end))
    }

    /// What all installations have in common of it.
    pub(super) fn normal(&self, text: &str) -> String {
        without_times(&self.own(text))
    }
}

/// From here to there: checksums of what holds an address, what WordPress draws (a password, a server, how it hides an address),
/// and what MediaWiki writes about its own work on a page.
const CUT: [(&str, &str); 14] = [
    ("<fieldset class=\"inline-edit-date\">", "</fieldset>"),
    ("CPU time usage", " seconds"),
    ("Real time usage", " seconds"),
    ("mediawiki.base@", "\""),
    ("etag: W/\"", "\""),
    ("data-pw=\"", "\""),
    ("\"password\":\"", "\""),
    ("<div class=\"jj\">", "<div class=\"post_password\">"),
    ("http:\\/\\/", ".gravatar.com"),
    ("\"mailto:", "</a>"),
    ("<!-- \nNewPP limit report", "-->"),
    ("<!--\nTransclusion expansion time report", "-->"),
    ("<!-- Saved in parser cache", "-->"),
    ("\"timingprofile\":[", "]"),
];

/// Without what stands between a start and the first end behind it, if that is near.
fn cut(text: &str, start: &str, end: &str) -> String {
    let mut parts = text.split(start);
    let mut cut = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        cut.push_str(start);
        let end = part.find(end).filter(|end| *end < 4_000).unwrap_or_default();
        cut.push_str(&part[end..]);
    }
    cut
}

/// The place where two texts part, with what is around.
fn parting(one: &str, other: &str) -> String {
    let same = one.bytes().zip(other.bytes()).take_while(|(one, other)| one == other).count();
    let around = |text: &str| {
        let bytes = &text.as_bytes()[same.saturating_sub(60).min(text.len())..(same + 100).min(text.len())];
        String::from_utf8_lossy(bytes).into_owned()
    };
    format!("{:?} direct, {:?} through", around(one), around(other))
}

/// A word with what separates it from the one before.
struct Word<'t> {
    separator: &'t str,
    text: &'t str,
    marked: bool,
}

fn without_times(text: &str) -> String {
    let (mut words, rest) = words(text);
    mark_measured(&mut words);
    for at in 1..words.len() {
        let clock = words[at].separator == ":" && is_short(words[at - 1].text) && is_short(words[at].text);
        if clock {
            words[at - 1].marked = true;
            words[at].marked = true;
        }
    }
    // A day stands beside its month, an hour beside its day.
    for at in 1..words.len() {
        words[at].marked |= words[at - 1].marked && goes_along(words[at].separator, words[at].text);
    }
    for at in (1..words.len()).rev() {
        let before = words[at].marked && goes_along(words[at].separator, words[at - 1].text);
        words[at - 1].marked |= before;
    }
    let shown = words.iter().flat_map(|word| [word.separator, if word.marked { MARK } else { word.text }]);
    shown.collect::<String>() + rest
}

/// The words, and what is behind the last one.
fn words(text: &str) -> (Vec<Word<'_>>, &str) {
    let mut words = Vec::new();
    let mut rest = text;
    while let Some(start) = rest.find(|letter: char| letter.is_ascii_alphanumeric()) {
        let (separator, behind) = rest.split_at(start);
        let end = behind.find(|letter: char| !letter.is_ascii_alphanumeric()).unwrap_or(behind.len());
        let (word, behind) = behind.split_at(end);
        words.push(Word {
            separator,
            text: word,
            marked: is_random(word) || is_time(word) || is_version(separator, word),
        });
        rest = behind;
    }
    (words, rest)
}

fn mark_measured(words: &mut [Word<'_>]) {
    let mut measured = false;
    for word in words {
        let goes_on = measured && word.separator.len() <= 3 && word.text.bytes().all(|byte| byte.is_ascii_digit());
        word.marked |= goes_on;
        measured = goes_on || MEASURED.contains(&word.text);
    }
}

/// A number used once, a key, a checksum of one, or seconds since 1970.
fn is_random(word: &str) -> bool {
    let has_digit = word.bytes().any(|byte| byte.is_ascii_digit());
    let hex = word.bytes().all(|byte| byte.is_ascii_hexdigit());
    hex && word.len() >= 8 || has_digit && word.len() >= 20 || word.len() >= 40
}

/// In MediaWiki's list of modules: a checksum of what it holds, addresses and folders included.
fn is_version(separator: &str, word: &str) -> bool {
    separator == "\",\"" && word.len() == 5
}

fn is_time(word: &str) -> bool {
    let lower = word.to_ascii_lowercase();
    let name = lower.get(..3).is_some_and(|start| MONTHS.contains(&start) || DAYS.contains(&start))
        && (lower.len() == 3 || lower.ends_with("day") || is_month(&lower));
    let year = word.len() == 4 && word.starts_with("20") && is_number(word);
    let date_and_hour =
        word.split_once('T').is_some_and(|(day, hour)| is_number(day) && is_number(hour.trim_end_matches('Z')));
    name || year || date_and_hour
}

fn is_month(lower: &str) -> bool {
    let names = ["january", "february", "march", "april", "june", "july", "august", "september", "october"];
    names.contains(&lower) || ["november", "december"].contains(&lower)
}

fn goes_along(separator: &str, word: &str) -> bool {
    let near = separator.len() <= 2 && separator.chars().all(|letter| " :-/,.T+".contains(letter));
    let of_a_uuid = separator == "-" && word.len() == 4 && word.bytes().all(|byte| byte.is_ascii_hexdigit());
    let short = is_short(word.trim_end_matches('Z')) || ["am", "pm"].contains(&word);
    near && !separator.is_empty() && (short || of_a_uuid)
}

fn is_short(word: &str) -> bool {
    word.len() <= 2 && is_number(word)
}

fn is_number(word: &str) -> bool {
    !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_digit())
}

#[test]
fn what_differs_between_two_installations_reads_as_one() {
    let names = Names::default().read("127.0.0.1:18001", "HOST");
    for (text, normal) in [
        ("on Sun, 29 Nov 2026 22:44:31 GMT", "on #, # # # #:#:# GMT"),
        ("\"2026-11-29T22:44:31\",\"id\":5", "\"#-#-#:#:#\",\"id\":5"),
        ("November 9, 2026 at 11:02 pm", "# #, # at #:# #"),
        ("nonce=71c44422de&post=12", "nonce=#&post=12"),
        ("http:\\/\\/127.0.0.1:18001\\/a%2F127.0.0.1%3A18001", "http:\\/\\/HOST\\/a%2FHOST"),
        ("\"wgBackendResponseTime\":123,\"wgHostname\"", "\"wgBackendResponseTime\":#,\"wgHostname\""),
        ("a<!-- Saved in parser cache with key x -->b", "a<!-- Saved in parser cache-->b"),
        ("/6f1c2d3e-9e6b-4deb-8952-0a1b2c3d4e5f", "/#-#-#-#-#"),
        ("[\"mediawiki.base\",\"4ix7n\",[9]]", "[\"mediawiki.base\",\"#\",[9]]"),
        ("from=23%3A35%2C+9+May", "from=#:#,+#+#"),
        ("decide on 12 markets", "decide on 12 markets"),
    ] {
        assert_eq!(names.normal(text), normal);
    }
}
