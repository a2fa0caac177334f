//! What stands on the screen.

use std::{cmp::Reverse, fmt::Display, time::Duration};

use fcgimux::admin::overview::{Connections, Endpoint, Level, Overview, Pool, spoken};

use super::line::{Line, Paint, column, wrap};

/// Narrower, nothing can be read.
const NARROWEST: usize = 40;
/// Columns of a curve at most: a sample each, as many as are kept.
const CURVE: usize = 180;

/// Everything that is to be shown, before it is known how large the screen is.
pub(super) struct Frame {
    overview: Overview,
    admin: String,
    stale: Option<String>,
}

pub(super) fn frame(overview: &Overview, admin: &str) -> Frame {
    Frame { overview: overview.clone(), admin: admin.to_owned(), stale: None }
}

impl Frame {
    /// Nothing newer can be had.
    pub(super) fn is_stale(&mut self, why: &impl Display) {
        self.stale = Some(why.to_string());
    }

    /// At most `height` lines of at most `width` columns.
    pub(super) fn text(&self, width: usize, height: usize, color: bool) -> String {
        let width = width.max(NARROWEST);
        let mut lines = self.lines(width, false);
        if lines.len() > height {
            lines = self.lines(width, true);
        }
        if lines.len() > height {
            let left = lines.len() - height.saturating_sub(1);
            lines.truncate(height.saturating_sub(1));
            lines.push(Line::new(Paint::Soft, format!("and {left} more lines: the screen is too small")));
        }
        lines.iter().map(|line| line.text(width, color) + "\n").collect()
    }

    /// `brief`: with a sentence alone of pools that are well, and endpoints that are not well in front of others.
    fn lines(&self, width: usize, brief: bool) -> Vec<Line> {
        let Overview { version, downstream_connections, sockets, pools, .. } = &self.overview;
        let count = |count: Option<u64>| count.map_or_else(|| "-".to_owned(), |count| count.to_string());
        let (up, down) = (count(sockets.time_wait_upstream), count(sockets.time_wait_downstream));
        let head = [
            format!("fcgimux {version} at {}", self.admin),
            format!("web servers' connections {downstream_connections}"),
            format!("TIME_WAIT {up} to applications, {down} to web servers"),
        ];
        let mut lines: Vec<_> = wrap(head, "   ", width).iter().map(|line| Line::new(Paint::Soft, line)).collect();
        if let Some(why) = &self.stale {
            lines.push(Line::new(Paint::Bad, format!("! what follows is old: {why}")));
        }
        // Whoever is in a hurry looks at the top, and there may be no more room than that.
        let mut pools: Vec<_> = pools.iter().collect();
        pools.sort_by_key(|pool| Reverse(pool.condition.level));
        for (place, pool) in pools.into_iter().enumerate() {
            let is_brief = brief && pool.condition.level == Level::Well;
            lines.extend((!is_brief || place == 0).then(Line::default));
            lines.extend(if is_brief { condition(pool, width) } else { of_pool(pool, width, brief) });
        }
        lines.push(Line::default());
        let legend = [
            "L leased",
            "S settling",
            "P proving",
            "C connecting",
            "I idle",
            ". not open",
            "! no free worker",
            "q quits",
        ];
        lines.extend(wrap(legend.map(str::to_owned), "  ", width).iter().map(|line| Line::new(Paint::Soft, line)));
        lines
    }
}

fn of_pool(pool: &Pool, width: usize, ill_first: bool) -> Vec<Line> {
    let mut lines = condition(pool, width);
    let time = |seconds: Option<f64>| seconds.map_or_else(|| "-".to_owned(), said);
    let limit: usize = pool.endpoints.iter().map(|endpoint| endpoint.connections_limit).sum();
    let used: usize = pool.endpoints.iter().map(|endpoint| in_use(&endpoint.connections)).sum();
    let figures = [
        format!("queue {}/{}, oldest {}", pool.queue.depth, pool.queue.limit, said(pool.queue.oldest_wait_seconds)),
        format!("in use {used}/{limit}"),
        format!("{} requests/s", pool.requests_per_second),
        format!("p50 {}", time(pool.p50_seconds)),
        format!("p99 {}", time(pool.p99_seconds)),
        format!("queue wait p99 {}", time(pool.queue_wait_p99_seconds)),
        format!(
            "reuse {}",
            pool.reuse.requests_per_connection.map_or_else(|| "-".to_owned(), |reuse| reuse.to_string())
        ),
        format!("failures {}/s, {} in 15 min", pool.failures.per_second, pool.failures.recent),
    ];
    let figures = wrap(figures, "   ", width - 2);
    lines.extend(figures.iter().map(|line| Line::new(Paint::Plain, format!("  {line}"))));
    if let Some(last) = &pool.failures.last {
        let place = last.endpoint.as_ref().map(|endpoint| format!(" at {endpoint}")).unwrap_or_default();
        let line = Line::new(Paint::Warning, format!("  last failure {} ago{place}, ", said(last.ago_seconds)));
        lines.push(line.and(Paint::Plain, format!("{}: {}", last.what, last.why)));
    }
    lines.extend(curves(pool, width));
    let mut all: Vec<_> = pool.endpoints.iter().collect();
    if ill_first {
        all.sort_by_key(|endpoint| state(endpoint).1 == Paint::Well);
    }
    lines.extend(endpoints(&all, width));
    lines
}

/// The name and the sentence, over as many lines as it takes.
fn condition(pool: &Pool, width: usize) -> Vec<Line> {
    let (sign, paint) = match pool.condition.level {
        Level::Well => ("✓", Paint::Well),
        Level::Degraded => ("◐", Paint::Warning),
        Level::Paused => ("‖", Paint::Warning),
        Level::Failing => ("✕", Paint::Bad),
        Level::Saturated => ("▲", Paint::Bad),
        Level::Down => ("■", Paint::Bad),
    };
    let words = pool.condition.text.split(' ').map(str::to_owned);
    let begin = format!("{sign} {}  ", pool.name);
    let room = width.saturating_sub(begin.chars().count()).max(width / 2);
    let told = wrap(words, " ", room);
    let place = |(number, text): (usize, &String)| match number {
        0 => Line::new(paint, sign).and(Paint::Strong, format!(" {}  ", pool.name)).and(paint, text),
        _ => Line::new(paint, format!("  {text}")),
    };
    told.iter().enumerate().map(place).collect()
}

fn curves(pool: &Pool, width: usize) -> Option<Line> {
    let history = &pool.history;
    let rate: Vec<_> = history.requests_per_second.iter().copied().map(Some).collect();
    let depth: Vec<_> = history.queue_depth.iter().map(|depth| Some(*depth as f64)).collect();
    let all = [("requests/s", rate), ("p99", history.p99_seconds.clone()), ("queue", depth)];
    let names: usize = all.iter().map(|(name, _)| name.len() + 4).sum();
    let room = (width.checked_sub(names)? / all.len()).min(CURVE);
    if history.requests_per_second.is_empty() || room < 8 {
        return None;
    }
    let line = Line::new(Paint::Soft, " ");
    Some(all.iter().fold(line, |line, (name, values)| {
        line.and(Paint::Soft, format!(" {name} ")).and(Paint::Plain, column(&curve(values, room), room))
    }))
}

/// The latest on the right; where there are more samples than columns, the highest of those that share one.
fn curve(values: &[Option<f64>], room: usize) -> String {
    const STEPS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let share = values.len().div_ceil(room).max(1);
    let highest = |some: &[Option<f64>]| some.iter().flatten().copied().reduce(f64::max);
    let columns: Vec<_> = values.rchunks(share).rev().map(highest).collect();
    let top = highest(&columns).filter(|top| *top > 0.0).unwrap_or(1.0);
    let step = |value: f64| STEPS[((value / top * 7.0).round() as usize).min(7)];
    columns.into_iter().map(|value| value.map_or(' ', step)).collect()
}

fn endpoints(endpoints: &[&Endpoint], width: usize) -> Vec<Line> {
    let longest = |of: &dyn Fn(&Endpoint) -> usize| endpoints.iter().copied().map(of).max().unwrap_or_default();
    let names = longest(&|endpoint| endpoint.endpoint.chars().count()).clamp(8, (width / 3).max(12));
    let states = longest(&|endpoint| state(endpoint).0.chars().count()).clamp(5, 48.min(width / 3));
    // Behind them: in use and requests/s.
    let room = width.saturating_sub(2 + names + 2 + states + 2 + 2 + 9 + 2 + 10).clamp(8, 64);
    let workers = longest(&|endpoint| cells(endpoint, room).chars().count()).clamp(8, room);
    let head = format!(
        "  {:names$}  {:states$}  {:workers$}  {:>9}  {:>10}",
        "ENDPOINT", "STATE", "WORKERS", "IN USE", "REQUESTS/S"
    );
    let mut lines = vec![Line::new(Paint::Soft, head)];
    for endpoint in endpoints {
        let (state, paint) = state(endpoint);
        let used = format!("{}/{}", in_use(&endpoint.connections), endpoint.connections_limit);
        let cells = column(&cells(endpoint, workers), workers);
        let line = Line::new(Paint::Strong, format!("  {}  ", column(&endpoint.endpoint, names)));
        let line = line.and(paint, column(&state, states)).and(Paint::Plain, format!("  {cells}  "));
        lines.push(line.and(Paint::Plain, format!("{used:>9}  {:>10}", endpoint.requests_per_second)));
    }
    lines
}

fn state(endpoint: &Endpoint) -> (String, Paint) {
    let mut words = format!("{} {}", endpoint.state, said(endpoint.state_for_seconds));
    let mut paint = if endpoint.state == "up" { Paint::Well } else { Paint::Warning };
    if endpoint.held {
        words += ", by an operator";
    }
    if let Some(seconds) = endpoint.saturated_for_seconds {
        words = format!("! no free worker {}, {words}", said(seconds));
        paint = Paint::Bad;
    } else if endpoint.full {
        words += ", all in use";
        paint = Paint::Warning;
    }
    if endpoint.state == "ejected" {
        paint = Paint::Bad;
    }
    (words, paint)
}

/// A letter for each connection, or counts where there is no room for so many.
fn cells(endpoint: &Endpoint, room: usize) -> String {
    let Connections { leased, settling, proving, connecting, idle } = endpoint.connections;
    let open = leased + settling + proving + connecting + idle;
    let rest = endpoint.connections_limit.saturating_sub(open);
    let states = [('L', leased), ('S', settling), ('P', proving), ('C', connecting), ('I', idle), ('.', rest)];
    if open + rest <= room {
        return states.into_iter().flat_map(|(letter, count)| std::iter::repeat_n(letter, count)).collect();
    }
    let counts = states.into_iter().filter(|(_, count)| *count > 0);
    counts.map(|(letter, count)| format!("{count}{letter}")).collect::<Vec<_>>().join(" ")
}

fn in_use(connections: &Connections) -> usize {
    connections.leased + connections.settling + connections.proving + connections.connecting
}

fn said(seconds: f64) -> String {
    spoken(Duration::try_from_secs_f64(seconds).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn sample() -> Value {
        let endpoint = |name: &str, saturated: Value, leased: usize, limit: usize| {
            json!({
                "endpoint": name, "state": "up", "state_for_seconds": 7200.0, "saturated_for_seconds": saturated,
                "full": leased == limit, "held": false, "near": true,
                "connections": {"leased": leased, "settling": 1, "proving": 0, "connecting": 0, "idle": 1},
                "connections_limit": limit, "requests_in_flight": leased, "requests_per_second": 12.5, "ejections": 0,
            })
        };
        let text = "Saturated for 2 min 10 s: 12 wait, oldest 1.3 s; 10.0.0.7:9000 has no free worker";
        json!({
            "version": "1.2.3", "interval_seconds": 5.0, "downstream_connections": 20,
            "sockets": {"time_wait_upstream": 0, "time_wait_downstream": null, "ephemeral_ports_in_use_ratio": 0.01},
            "pools": [{
                "name": "shop",
                "condition": {"level": "saturated", "for_seconds": 130.0, "text": text, "cause": "workers"},
                "queue": {"depth": 12, "limit": 1024, "oldest_wait_seconds": 1.3},
                "requests_in_flight": 4, "requests_per_second": 120.0, "p50_seconds": 0.012, "p99_seconds": null,
                "queue_wait_p99_seconds": 1.2, "requests": {"ok": 1, "refused": 2, "broken": 3, "timeout": 4, "gone": 5},
                "refused": {"queue_full": 2},
                "reuse": {"requests": 100, "connections_opened": 2, "requests_per_connection": 50.0},
                "failures": {"per_second": 0.2, "recent": 34, "last": {
                    "ago_seconds": 3.0, "what": "broken", "endpoint": "10.0.0.7:9000", "why": "closed\u{1b}[2J"}},
                "endpoints": [endpoint("10.0.0.7:9000", json!(130.0), 4, 6), endpoint("/run/php.sock", json!(null), 90, 99)],
                "history": {
                    "step_seconds": 5.0, "samples_at_most": 180, "requests_per_second": [0.0, 60.0, 120.0], "failures": [0, 0, 1],
                    "p50_seconds": [null, 0.1, 0.1], "p99_seconds": [null, 0.1, 0.2],
                    "queue_wait_p99_seconds": [null, 0.1, 0.1], "queue_depth": [0, 0, 12], "connections_in_use": [0, 1, 4]},
            }],
        })
    }

    fn shown(width: usize, height: usize, color: bool) -> String {
        frame(&serde_json::from_value(sample()).unwrap(), "127.0.0.1:9253").text(width, height, color)
    }

    #[test]
    fn a_frame_says_what_is_wrong_and_where() {
        let text = shown(120, 100, false);
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(
            lines[0],
            "fcgimux 1.2.3 at 127.0.0.1:9253   web servers' connections 20   TIME_WAIT 0 to applications, - to web servers"
        );
        assert_eq!(
            lines[2],
            "▲ shop  Saturated for 2 min 10 s: 12 wait, oldest 1.3 s; 10.0.0.7:9000 has no free worker"
        );
        assert!(
            lines[3].starts_with("  queue 12/1024, oldest 1.3 s   in use 96/105   120 requests/s   p50 12 ms   p99 -"),
            "{text}"
        );
        assert_eq!(lines[4], "  failures 0.2/s, 34 in 15 min", "{text}");
        assert_eq!(lines[5], "  last failure 3 s ago at 10.0.0.7:9000, broken: closed�[2J");
        assert!(lines[6].contains("▁▅█") || lines[6].contains("▁▄█"), "{text}");
        assert!(lines[8].starts_with("  10.0.0.7:9000  ! no free worker 2 min 10 s, up 2 h  LLLLSI "), "{text}");
        assert!(lines[8].contains(" 5/6 ") && lines[8].ends_with("12.5"), "{text}");
        assert!(lines[9].contains("  90L 1S 1I 7. "), "{text}");
    }

    #[test]
    fn a_frame_fits_the_screen() {
        for (width, height) in [(200, 50), (80, 24), (60, 12), (40, 5)] {
            for color in [false, true] {
                let text = shown(width, height, color);
                assert!(text.lines().count() <= height, "{width} x {height}:\n{text}");
                assert_eq!(text.contains('\u{1b}'), color);
            }
            let text = shown(width, height, false);
            assert!(text.lines().all(|line| line.chars().count() <= width), "{width} x {height}:\n{text}");
        }
        assert!(shown(80, 5, false).ends_with("the screen is too small\n"));
    }

    #[test]
    fn what_is_not_well_comes_first_where_there_is_no_room_for_all() {
        let mut value = sample();
        let ill = value["pools"][0].clone();
        let mut well = ill.clone();
        well["condition"] =
            json!({"level": "well", "for_seconds": 9.0, "text": "Well: nobody waits", "cause": "nothing"});
        let named = |pool: &Value, name: &str| {
            let mut pool = pool.clone();
            pool["name"] = json!(name);
            pool
        };
        value["pools"] =
            (0..6).map(|number| named(if number == 4 { &ill } else { &well }, &format!("p{number}"))).collect();
        let shown = |height| frame(&serde_json::from_value(value.clone()).unwrap(), "x").text(90, height, false);
        let text = shown(24);
        let names = text.lines().filter_map(|line| line.split(' ').nth(1).filter(|name| name.starts_with('p')));
        assert_eq!(names.collect::<Vec<_>>(), ["p4", "p0", "p1", "p2", "p3", "p5"], "{text}");
        assert!(text.contains("✓ p0  Well: nobody waits\n✓ p1"), "{text}");
        assert_eq!(shown(200).matches("REQUESTS/S").count(), 6);
    }

    #[test]
    fn what_is_old_is_marked_as_such() {
        let mut frame = frame(&serde_json::from_value(sample()).unwrap(), "127.0.0.1:9253");
        frame.is_stale(&"no admin server");
        assert!(frame.text(80, 50, false).contains("! what follows is old: no admin server\n"));
    }

    #[test]
    fn a_curve_has_the_highest_of_what_shares_a_column() {
        assert_eq!(curve(&[Some(0.0), Some(7.0), None, Some(3.5)], 8), "▁█ ▅");
        assert_eq!(curve(&[Some(0.0), Some(7.0), None, Some(3.5)], 2), "█▅");
        assert_eq!(curve(&[Some(0.0), Some(0.0)], 8), "▁▁");
        assert_eq!(curve(&[], 8), "");
    }
}
