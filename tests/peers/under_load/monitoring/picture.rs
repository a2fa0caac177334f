//! Draws a dashboard from what its queries gave, as a page, and has a browser make a picture of it: no Grafana, but enough to see
//! whether a panel says what it should.

use std::{
    collections::BTreeMap,
    env,
    fmt::Write,
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use super::prometheus::Series;
use crate::{
    monitoring::dashboard::{Dashboard, Panel, list, text},
    support::{Exit, Folder, Process},
};

const COLUMN: u64 = 60;
const ROW: u64 = 34;
const COLOURS: [&str; 10] =
    ["#3274d9", "#e0752d", "#56a64b", "#c4162a", "#8f3bb8", "#12908e", "#b877d9", "#806600", "#ff7383", "#5a5a5a"];
const STYLE: &str = "body{margin:0;background:#f4f5f5;font:11px sans-serif;color:#222}\
    div{position:absolute;box-sizing:border-box;background:#fff;border:1px solid #ccc;padding:4px 6px;overflow:hidden}\
    div.row{background:none;border:0;font:bold 14px sans-serif;padding-top:10px}b{font-size:12px}\
    p{margin:1px 0;color:#777;font-size:9px}big{font-size:20px;display:block}td,th{padding:2px 12px 2px 0;text-align:left}";

/// A page in the making.
pub(crate) struct Picture {
    body: String,
    times: [f64; 2],
    height: u64,
}

/// The inside of a panel.
#[derive(Clone, Copy)]
struct Frame {
    width: f64,
    height: f64,
    times: [f64; 2],
}

impl Picture {
    pub(crate) fn of(dashboard: &Dashboard, times: [f64; 2]) -> Self {
        let mut picture = Self { body: String::new(), times, height: 0 };
        for row in list(&dashboard.json["panels"]).iter().filter(|panel| panel["type"] == "row") {
            let [x, y, w, h] = place(row);
            picture.put("row", [x, y, w, h + 6], &escape(&text(&row["title"])));
        }
        picture
    }

    /// `results`: of each of its queries.
    pub(crate) fn add(&mut self, panel: &Panel, results: &[Vec<Series>]) {
        let [x, y, w, h] = place(&panel.json);
        #[expect(clippy::cast_precision_loss, reason = "a few hundred")]
        let frame = Frame { width: w as f64 - 14.0, height: h as f64 - 66.0, times: self.times };
        let inside = match panel.kind.as_str() {
            "table" => table(panel, results),
            "stat" => stat(panel, results),
            "heatmap" => frame.heatmap(&results[0]),
            _ => frame.lines(panel, results),
        };
        let head = format!(
            "<b>{}</b> {}<p>{}</p>",
            escape(&panel.title),
            escape(&panel.unit),
            escape(&text(&panel.json["description"]))
        );
        self.put("", [x, y, w, h], &(head + &inside));
    }

    /// Into target/dashboards/NAME.png.
    #[track_caller]
    pub(crate) fn take(self, name: &str) {
        let page = format!("<!doctype html><meta charset=utf-8><style>{STYLE}</style><body>{}", self.body);
        let (folder, target) = (Folder::new(), pictures());
        let file = folder.write("page.html", &page);
        let picture = target.join(format!("{name}.png"));
        let _ = fs::remove_file(&picture);
        let arguments = [
            "--headless=new".to_owned(),
            "--no-sandbox".to_owned(),
            "--disable-gpu".to_owned(),
            "--disable-dev-shm-usage".to_owned(),
            "--hide-scrollbars".to_owned(),
            format!("--user-data-dir={}", folder.subfolder("profile").display()),
            format!("--window-size={},{}", COLUMN * 24, self.height),
            format!("--screenshot={}", picture.display()),
            format!("file://{}", file.display()),
        ];
        let mut browser = Process::start(&folder, "chromium.log", "chromium", arguments);
        let exit = browser.wait_exit(Duration::from_secs(30));
        assert_eq!(exit, Some(Exit::Code(0)), "{}", browser.log(&folder));
        let size = fs::metadata(&picture).map_or(0, |file| file.len());
        assert!(size > 10_000, "{} has {size} bytes: {}", picture.display(), browser.log(&folder));
    }

    fn put(&mut self, class: &str, [x, y, w, h]: [u64; 4], inside: &str) {
        self.height = self.height.max(y + h);
        let style = format!("left:{x}px;top:{y}px;width:{w}px;height:{h}px");
        write!(self.body, "<div class='{class}' style='{style}'>{inside}</div>").expect("writing to a text");
    }
}

impl Frame {
    fn x(&self, time: f64) -> f64 {
        let [from, to] = self.times;
        (time - from) / (to - from).max(1.0) * (self.width - 50.0) + 50.0
    }

    fn y(&self, value: f64, most: f64) -> f64 {
        self.height - 8.0 - value / most * (self.height - 16.0)
    }

    fn lines(&self, panel: &Panel, results: &[Vec<Series>]) -> String {
        let named = named(panel, results);
        let values = named.iter().flat_map(|(_, series)| &series.points).map(|(_, value)| *value);
        let most = values.filter(|value| value.is_finite()).fold(0.0, f64::max);
        let most = if most > 0.0 { most } else { 1.0 };
        let mut drawn = format!("<svg width='{}' height='{}'>", self.width, self.height);
        for part in [0.0, 0.5, 1.0] {
            let y = self.y(part * most, most);
            let (end, value) = (self.width, human(part * most, &panel.unit));
            let line = format!("<path d='M50 {y}H{end}' stroke='#e5e5e5'/><text x='0' y='{}'>{value}</text>", y + 4.0);
            drawn += &line.replace("<text", "<text font-size='10'");
        }
        let mut legend = String::new();
        for (index, (name, series)) in named.iter().enumerate() {
            let colour = COLOURS[index % COLOURS.len()];
            let points = series.points.iter().filter(|(_, value)| value.is_finite());
            let points: Vec<_> =
                points.map(|(time, value)| format!("{:.1},{:.1}", self.x(*time), self.y(*value, most))).collect();
            write!(drawn, "<polyline points='{}' fill='none' stroke='{colour}' stroke-width='1.6'/>", points.join(" "))
                .expect("writing to a text");
            write!(legend, "<span style='color:{colour}'>&#9632;</span> {} &nbsp;", escape(name))
                .expect("writing to a text");
        }
        format!("{drawn}</svg><p>{legend}</p>")
    }

    /// The darker the more: the buckets add up, so that each is shown without the one below it.
    fn heatmap(&self, series: &[Series]) -> String {
        let bound = |series: &Series| series.label("le").parse().unwrap_or(f64::INFINITY);
        let mut buckets: Vec<_> = series.iter().collect();
        buckets.sort_by(|one, other| bound(one).total_cmp(&bound(other)));
        let mut below = BTreeMap::<String, f64>::new();
        #[expect(clippy::cast_precision_loss, reason = "a few")]
        let high = (self.height - 4.0) / buckets.len() as f64;
        let mut drawn = format!("<svg width='{}' height='{}' font-size='9'>", self.width, self.height);
        for (row, bucket) in buckets.iter().enumerate() {
            #[expect(clippy::cast_precision_loss, reason = "a few")]
            let y = self.height - high * (row as f64 + 1.0);
            write!(drawn, "<text x='0' y='{}'>{}</text>", y + high, bucket.label("le")).expect("writing to a text");
            for (time, value) in &bucket.points {
                let more = value - below.insert(time.to_string(), *value).unwrap_or(0.0);
                let shade = (more.max(0.0) / 40.0).sqrt().min(1.0);
                let (x, wide) = (self.x(*time), self.x(1.0) - self.x(0.0));
                write!(drawn, "<rect x='{x:.1}' y='{y:.1}' width='{wide:.1}' height='{high:.1}' fill='#e0752d' fill-opacity='{shade:.2}'/>")
                    .expect("writing to a text");
            }
        }
        drawn + "</svg>"
    }
}

/// The last value of each.
fn stat(panel: &Panel, results: &[Vec<Series>]) -> String {
    let last =
        |series: &Series| series.points.iter().rev().find(|(_, value)| value.is_finite()).map(|(_, value)| *value);
    let each = named(panel, results).into_iter().filter_map(|(name, series)| Some((name, last(series)?)));
    each.map(|(name, value)| format!("<big>{}</big>{}", human(value, &panel.unit), escape(&name))).collect()
}

/// Rows of the same labels are one, as Grafana's `merge` has it; its heads are those of `organize`.
fn table(panel: &Panel, results: &[Vec<Series>]) -> String {
    let mut rows = BTreeMap::<Vec<&str>, Vec<String>>::new();
    for (column, series) in results.iter().enumerate() {
        for one in series {
            let labels = one.labels.iter().map(|(_, value)| value.as_str()).collect();
            let row = rows.entry(labels).or_insert_with(|| vec![String::new(); results.len()]);
            row[column] = human(one.points[0].1, "short");
        }
    }
    let names = &panel.json["transformations"][1]["options"]["renameByName"];
    let labels =
        results[0].first().map(|series| series.labels.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>());
    let columns = ["A", "B", "C", "D", "E", "F", "G"].iter().take(results.len()).map(|id| format!("Value #{id}"));
    let head: String = labels
        .into_iter()
        .flatten()
        .chain(columns)
        .map(|key| format!("<th>{}</th>", escape(&text(&names[&key]))))
        .collect();
    let cells = |row: (Vec<&str>, Vec<String>)| {
        let cells = row.0.into_iter().map(str::to_owned).chain(row.1).map(|cell| format!("<td>{}</td>", escape(&cell)));
        format!("<tr>{}</tr>", cells.collect::<String>())
    };
    format!("<table><tr>{head}</tr>{}</table>", rows.into_iter().map(cells).collect::<String>())
}

fn named<'a>(panel: &Panel, results: &'a [Vec<Series>]) -> Vec<(String, &'a Series)> {
    let each = panel.targets.iter().zip(results);
    each.flat_map(|(target, series)| series.iter().map(|one| (one.named(&target.legend), one))).collect()
}

fn human(value: f64, unit: &str) -> String {
    let scaled = |value: f64, steps: &[(f64, &str)]| {
        let (by, name) = steps.iter().find(|(by, _)| value.abs() >= *by).or_else(|| steps.last()).expect("a step");
        format!("{:.3}{name}", value / by).replace(".000", "")
    };
    match unit {
        "s" => scaled(value, &[(3600.0, " h"), (60.0, " min"), (1.0, " s"), (1e-3, " ms"), (1e-6, " us")]),
        "percentunit" => format!("{:.2} %", value * 100.0),
        "bytes" | "Bps" => scaled(value, &[(1e6, " MB"), (1e3, " kB"), (1.0, " B")]),
        _ => scaled(value, &[(1e6, " M"), (1e3, " k"), (1.0, "")]),
    }
}

fn place(panel: &serde_json::Value) -> [u64; 4] {
    let [x, y, w, h] = ["x", "y", "w", "h"].map(|key| panel["gridPos"][key].as_u64().expect("a place"));
    [x * COLUMN, y * ROW, w * COLUMN, h * ROW]
}

/// Beside the program that was tested.
fn pictures() -> PathBuf {
    let target = env::var("CARGO_TARGET_DIR").unwrap_or_else(|_| "target".to_owned());
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(target).join("dashboards");
    fs::create_dir_all(&folder).expect("a folder for pictures");
    folder
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
