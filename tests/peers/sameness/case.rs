//! One case of a table, and how its two sides are judged.

use std::{path::Path, time::Duration};

use super::{
    client::{self, Answer, Ending, Kept, Request, ask},
    seen::Seen,
    site::{self, Kind, Site},
    stage::{Application, Side, Theme},
};

/// What a client does on one side.
type Visit = Box<dyn Fn(&Side<'_>) -> Seen + Send + Sync>;
/// An application that is the case's own, and what it lives in.
type Own = Box<dyn Fn(&Theme) -> Application + Send + Sync>;

/// Where through fcgimux is not what direct is.
pub(crate) struct Better {
    /// Words of README.md or docs that name the difference.
    pub(crate) words: &'static str,
    pub(crate) status: u16,
    pub(crate) ending: Ending,
}

pub(crate) struct Case {
    pub(crate) name: String,
    pub(crate) sites: Vec<Site>,
    pub(crate) scripts: Vec<(String, String)>,
    pub(crate) visit: Visit,
    pub(crate) own: Option<Own>,
    requests: Vec<Request>,
    /// Of the last answer, on the direct side: that a case shows what it is meant to.
    pub(crate) status: u16,
    pub(crate) ending: Ending,
    pub(crate) body_has: Option<String>,
    pub(crate) log_has: Option<String>,
    /// Executions that PHP's ledger holds in the end.
    pub(crate) runs: Option<usize>,
    /// How much later than directly the visit may end.
    pub(crate) slack: Duration,
    pub(crate) better: Option<Better>,
    pub(crate) in_turn: bool,
    pub(crate) ledgered: bool,
    /// How much of a body is compared; a body that is cut off by chance is not.
    pub(crate) bodies: Bodies,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Bodies {
    Equal,
    /// Whether there is any.
    Some,
}

impl Case {
    /// A GET of `/env.php`, which shows what PHP sees, through nginx, answered with 200; the methods change that.
    pub(crate) fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            sites: Vec::new(),
            scripts: Vec::new(),
            visit: Box::new(|_| unreachable!("a visit")),
            own: None,
            requests: Vec::new(),
            status: 200,
            ending: Ending::Whole,
            body_has: None,
            log_has: None,
            runs: None,
            slack: Duration::from_millis(700),
            better: None,
            in_turn: false,
            ledgered: true,
            bodies: Bodies::Equal,
        }
    }

    /// One more web server to run it with.
    pub(crate) fn on(mut self, site: Site) -> Self {
        self.sites.push(site);
        self
    }

    pub(crate) fn everywhere(mut self) -> Self {
        self.sites.extend(site::all());
        self
    }

    /// Without one of them, where that does something of its own.
    pub(crate) fn but(mut self, kind: Kind) -> Self {
        self.sites.retain(|site| site.kind != kind);
        self
    }

    /// A script below the document root; `text` goes behind `<?php`.
    pub(crate) fn script(mut self, name: &str, text: &str) -> Self {
        self.scripts.push((name.to_owned(), format!("<?php\n{text}\n")));
        self
    }

    /// Any other file below the document root.
    pub(crate) fn file(mut self, name: &str, text: &str) -> Self {
        self.scripts.push((name.to_owned(), text.to_owned()));
        self
    }

    /// A request on a connection of its own; several are asked one after the other.
    pub(crate) fn ask(mut self, request: Request) -> Self {
        self.requests.push(request);
        let requests = self.requests.clone();
        self.does(move |side| requests.iter().map(|request| ask(side.address(), request)).collect())
    }

    /// A request on the connection of the one before.
    pub(crate) fn ask_kept(mut self, request: Request) -> Self {
        self.requests.push(request);
        let requests = self.requests.clone();
        self.does(move |side| {
            let mut kept = Kept::to(side.address());
            requests.iter().map(|request| kept.ask(request)).collect()
        })
    }

    /// curl; see [`client::curl`]. `code` is its exit status on the direct side.
    pub(crate) fn curl(self, code: i32, arguments: &'static [&'static str]) -> Self {
        self.gives(0, Ending::None).does(move |side| {
            let (exit, output) = client::curl(side.address(), arguments);
            assert!(side.is_through() || exit == code, "curl's exit status is {exit} directly: {output}");
            Seen::default().and("curl's exit status", exit).and("curl's output", output)
        })
    }

    /// Anything else that a client does.
    pub(crate) fn does(mut self, visit: impl Fn(&Side<'_>) -> Seen + Send + Sync + 'static) -> Self {
        self.visit = Box::new(visit);
        self
    }

    /// An application of its own in place of the theme's php-fpm.
    pub(crate) fn before(mut self, own: impl Fn(&Theme) -> Application + Send + Sync + 'static) -> Self {
        self.own = Some(Box::new(own));
        self
    }

    /// Status and end of the last answer, on the direct side.
    pub(crate) fn gives(mut self, status: u16, ending: Ending) -> Self {
        (self.status, self.ending) = (status, ending);
        self
    }

    pub(crate) fn status(self, status: u16) -> Self {
        self.gives(status, Ending::Whole)
    }

    /// Words in the body of the last answer, on the direct side.
    pub(crate) fn shows(mut self, words: &str) -> Self {
        self.body_has = Some(words.to_owned());
        self
    }

    /// Words in the web server's log, on both sides.
    pub(crate) fn logs(mut self, words: &str) -> Self {
        self.log_has = Some(words.to_owned());
        self
    }

    /// So many executions, on both sides.
    pub(crate) fn runs(mut self, count: usize) -> Self {
        self.runs = Some(count);
        self
    }

    /// Through fcgimux it may end so much later than directly.
    pub(crate) fn no_later_than(mut self, slack: Duration) -> Self {
        self.slack = slack;
        self
    }

    /// Through fcgimux the last answer is this one instead; everything else but headers and body is the same.
    pub(crate) fn better(mut self, words: &'static str, status: u16, ending: Ending) -> Self {
        self.better = Some(Better { words, status, ending });
        self
    }

    /// What PHP executed is not compared.
    pub(crate) fn unledgered(mut self) -> Self {
        self.ledgered = false;
        self
    }

    /// Not better, and not to be helped: what fcgimux cannot tell the web server. The words stand in the documents as well.
    pub(crate) fn differs(self, words: &'static str, status: u16, ending: Ending) -> Self {
        self.better(words, status, ending).unledgered()
    }

    /// Runs the direct side first and the other behind it, not both at once.
    pub(crate) fn in_turn(mut self) -> Self {
        self.in_turn = true;
        self
    }

    /// Compares of a body only whether there is any: how much of it comes before a cut is chance.
    pub(crate) fn any_length(mut self) -> Self {
        self.bodies = Bodies::Some;
        self
    }

    /// One for each web server.
    pub(crate) fn names(&self) -> Vec<String> {
        if self.sites.is_empty() {
            return vec![self.name.clone()];
        }
        self.sites.iter().map(|site| self.name_with(Some(site))).collect()
    }

    pub(crate) fn name_with(&self, site: Option<&Site>) -> String {
        site.map_or_else(|| self.name.clone(), |site| format!("{}, {}", self.name, site.name()))
    }

    /// Writes its scripts.
    pub(crate) fn furnish(&self, root: &Path) {
        let own = self.scripts.iter().map(|(name, text)| (name.as_str(), text.as_str()));
        let common = super::scripts::COMMON.iter().copied();
        for (name, text) in common.chain(own) {
            let path = root.join(name);
            std::fs::create_dir_all(path.parent().expect("a folder")).expect("make a folder");
            std::fs::write(path, text).expect("write a script");
        }
    }

    /// What is wrong with the direct side: the case does not show what it is meant to.
    pub(crate) fn misses(&self, direct: &Seen) -> Option<String> {
        let last = direct.last()?;
        if (last.status(), last.ending) != (self.status, self.ending) {
            return Some(format!("directly: {last:?}, not {} {:?}", self.status, self.ending));
        }
        let words = self.body_has.as_deref().unwrap_or_default();
        let shown = last.text().contains(words);
        (!shown).then(|| format!("directly: no {words:?} in {}", last.text()))
    }

    /// How the two sides differ, in words.
    pub(crate) fn differences(&self, direct: &Seen, through: &Seen) -> Vec<String> {
        match &self.better {
            None => direct.differences(through, self.bodies),
            Some(better) => {
                let shown = |answer: Option<&Answer>| answer.map(|last| (last.status(), last.ending));
                let wanted = Some((better.status, better.ending));
                let seen = shown(through.last());
                if seen == wanted { Vec::new() } else { vec![format!("through: {seen:?}, not {wanted:?}")] }
            }
        }
    }
}
