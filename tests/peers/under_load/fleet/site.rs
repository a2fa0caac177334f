//! nginx before fcgimux before pods.

use crate::support::{Before, Fcgimux, Journal, Nginx, Pod, Pods, Report, Request, wait_until, warnings};
use crate::under_load::fleet::list::List;

/// What is logged of a pod that is lost.
pub(crate) const LOSSES: &[&str] =
    &["cannot connect", "exchange broke", "did not prove itself", "endpoint is left alone", "acknowledges nothing"];

/// One web server with its fcgimux.
pub(crate) struct Site {
    pub(crate) mux: Fcgimux,
    pub(crate) nginx: Nginx,
    before: Before,
}

impl Site {
    /// A pool with these items as `endpoints`, and further lines.
    #[track_caller]
    pub(crate) fn start(pods: &Pods, items: &[String], lines: &[&str]) -> Self {
        Self::behind(&[], pods, items, lines, "")
    }

    /// The same with more at the top of the configuration.
    #[track_caller]
    pub(crate) fn start_with(pods: &Pods, items: &[String], lines: &[&str], top: &str) -> Self {
        Self::behind(&[], pods, items, lines, top)
    }

    /// The same with what a list has.
    #[track_caller]
    pub(crate) fn listing(pods: &Pods, list: &dyn List, lines: &[&str]) -> Self {
        let command = list.command();
        let command: Vec<&str> = command.iter().map(String::as_str).collect();
        let mut site = Self::behind(&command, pods, &[list.item()], lines, "");
        // Descriptors before are counted once there are no more to come.
        wait_until("it hears of changes", || list.is_followed());
        site.before = Before::of(&site.mux);
        site
    }

    #[track_caller]
    fn behind(command: &[&str], pods: &Pods, items: &[String], lines: &[&str], top: &str) -> Self {
        let items: String = items.iter().map(|item| format!("      - {item}\n")).collect();
        let lines: String = lines.iter().map(|line| format!("    {line}\n")).collect();
        let text = format!(
            "{top}listeners:\n  - socket: {{socket}}\n    mode: \"0666\"\n    pool: default\n\
             pools:\n  default:\n    endpoints:\n{items}{lines}admin: {{listen: {{admin}}}}\n"
        );
        let mux = Fcgimux::behind(command, &text);
        let nginx = Nginx::site(&pods.scripts(), mux.socket()).start();
        let before = Before::of(&mux);
        Self { mux, nginx, before }
    }

    /// Nothing is held, nothing unexpected was logged; see [`Before::assert_nothing_left`].
    #[track_caller]
    pub(crate) fn assert_nothing_left(&self, expected: &[&str]) {
        self.before.assert_nothing_left(&self.mux, expected);
    }

    /// Whether an endpoint is up, as the metrics have it.
    pub(crate) fn is_up(&self, pod: &Pod) -> bool {
        self.mux.metrics().sum("fcgimux_endpoint_up", &[("endpoint", &pod.address().to_string())]) == 1.0
    }

    /// Whether an endpoint is known at all.
    pub(crate) fn lists(&self, pod: &Pod) -> bool {
        let name = format!("fcgimux_endpoint_up{{pool=\"default\",endpoint=\"{}\"}}", pod.address());
        self.mux.metrics().get(&name).is_some()
    }

    pub(crate) fn is_draining(&self, pod: &Pod) -> bool {
        let labels = [("endpoint", &*pod.address().to_string()), ("state", "draining")];
        self.mux.metrics().sum("fcgimux_endpoint_state", &labels) == 1.0
    }

    /// Every metric of one endpoint that is not 0.
    pub(crate) fn describe(&self, pod: &Pod) -> String {
        let (metrics, address) = (self.mux.metrics(), format!("\"{}\"", pod.address()));
        let of_it = metrics.iter().filter(|(series, value)| series.contains(&address) && *value != 0.0);
        of_it.map(|(series, value)| format!("{} {value}\n", series.replace(&address, "it"))).collect()
    }

    /// Prints what became of the requests that failed, and what was logged.
    pub(crate) fn print_failed(&self, report: &Report, journal: &Journal) {
        for token in report.failed_tokens.iter().take(5) {
            let runs: Vec<_> = journal.runs.iter().filter(|run| run.token == *token).collect();
            println!("{token} failed; it ran: {runs:?}");
        }
        if !report.failed_tokens.is_empty() {
            println!("{:#?}", warnings(&self.mux).into_iter().take(10).collect::<Vec<_>>());
        }
    }

    /// Prints what came of a load, and what the program counted.
    pub(crate) fn print(&self, report: &Report) {
        let metrics = self.mux.metrics();
        let told = metrics.iter().filter(|(series, value)| {
            let names = ["_closed_total", "retries_total", "ejections_total", "refused_total", "endpoint_up"];
            *value != 0.0 && !series.contains("\"body\"") && names.iter().any(|name| series.contains(name))
        });
        println!("{report}  counted: {:?}", told.collect::<Vec<_>>());
    }
}

/// One item of a list of endpoints; `more` stands behind the address: `, weight: 2`.
pub(crate) fn item(pod: &Pod, more: &str) -> String {
    format!("{{address: \"{}\"{more}}}", pod.address())
}

pub(crate) fn items(pods: &[&Pod]) -> Vec<String> {
    pods.iter().map(|pod| item(pod, "")).collect()
}

/// Whether it was a POST of [`mixed`].
pub(crate) fn is_post(token: &str) -> bool {
    number(token).is_multiple_of(3)
}

fn number(token: &str) -> u64 {
    let number = token.rsplit_once('n').and_then(|(_, number)| number.parse().ok());
    number.expect("a token ends with its number")
}

/// Two thirds GET, the rest POST, a few of these too large to keep the connection; all take so long in the script.
pub(crate) fn mixed(micros: u64) -> impl Fn(u64) -> Request + Send + Sync + 'static {
    move |number| {
        let request = match number % 12 {
            0 => Request::echo("POST", 500).body(30_000, number),
            3 | 6 | 9 => Request::echo("POST", 500).body(400, number),
            _ => Request::echo("GET", 2_000),
        };
        request.micros(micros)
    }
}
