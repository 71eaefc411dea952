//! A fleet's history as a picture: nodes ready and calls over time, as an SVG file and as a few lines of text.

use std::fmt::Write as _;

use vpc_model::Millis;

use super::FleetReport;
use super::report::Calls;

/// Columns of the picture in text.
const COLUMNS: usize = 72;
/// Bars from nothing to full.
const BARS: [char; 9] = [' ', '▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// Measures of the SVG, in its pixels: the field in which curves are drawn, heights of its panels, and what lies around.
const LEFT: f64 = 80.0;
const WIDTH: f64 = 820.0;
const READY_HEIGHT: f64 = 200.0;
const CALLS_HEIGHT: f64 = 90.0;
const GAP: f64 = 34.0;
const TOP: f64 = 56.0;
/// Colours that can be told apart without seeing red and green.
const READY: &str = "#0072b2";
const ANSWERED: &str = "#56b4e9";
const THROTTLED: &str = "#d55e00";
const BOUND: &str = "#444444";

/// Nodes ready (curve, with the bound), and for each action calls a second that were answered (below) and throttled (above them), with
/// its bucket's rate as a line.
#[must_use]
pub fn svg(report: &FleetReport) -> String {
    let calls: Vec<_> = report.calls.iter().collect();
    let height = TOP + READY_HEIGHT + (GAP + CALLS_HEIGHT) * calls.len() as f64 + GAP;
    let mut out = String::new();
    let (wide, nodes) = (LEFT + WIDTH + 20.0, report.nodes());
    // Writing to a text can not fail.
    _ = writeln!(
        out,
        r##"<svg xmlns="http://www.w3.org/2000/svg" width="{wide}" height="{height}" font-family="sans-serif" font-size="12">
<rect width="100%" height="100%" fill="#ffffff"/>
<text x="{LEFT}" y="22" font-size="15">{} nodes, {}: ratio {:.3}, {:.2} throttled calls a node</text>"##,
        report.fleet.nodes,
        report.fleet.case.name(),
        report.ratio(),
        report.extra(),
    );
    panel(&mut out, TOP, READY_HEIGHT, "nodes ready", f64::from(nodes), report.end);
    for wave in &report.waves {
        let bound = Millis(wave.at.0 + wave.bound().0);
        let at = x(bound, report.end);
        _ = writeln!(
            out,
            r#"<line x1="{at:.1}" x2="{at:.1}" y1="{TOP}" y2="{:.1}" stroke="{BOUND}" stroke-dasharray="4 3"/><text x="{:.1}" y="{:.1}" fill="{BOUND}">bound {:.0} s</text>"#,
            TOP + READY_HEIGHT,
            at + 4.0,
            TOP + 14.0,
            bound.0 as f64 / 1000.0
        );
    }
    let mut curve = format!("M {LEFT:.1} {:.1}", TOP + READY_HEIGHT);
    for (span, count) in ready_by_column(report, WIDTH as usize) {
        let up = f64::from(count) / f64::from(nodes.max(1)) * READY_HEIGHT;
        _ = write!(curve, " L {:.1} {:.1}", x(span, report.end), TOP + READY_HEIGHT - up);
    }
    _ = writeln!(out, r#"<path d="{curve}" fill="none" stroke="{READY}" stroke-width="2"/>"#);
    for (number, (action, calls)) in calls.into_iter().enumerate() {
        let top = TOP + READY_HEIGHT + GAP + (GAP + CALLS_HEIGHT) * number as f64;
        calls_panel(&mut out, top, action, calls, report);
    }
    out.push_str("</svg>\n");
    out
}

fn calls_panel(out: &mut String, top: f64, action: &str, calls: &Calls, report: &FleetReport) {
    let rate = rate_of(report, action);
    // A first rush would flatten all that follows: it is cut off, and its height written.
    let each = FleetReport::WINDOW.0 as f64 / 1000.0;
    let highest = calls.over_time.iter().map(|(sent, _)| f64::from(*sent) / each).fold(0.0, f64::max);
    let most = rate.map_or(highest, |rate| highest.min(rate * 4.0)).max(1.0);
    let title = format!("{action}: {} sent, {} throttled; at most {highest:.0} calls/s", calls.sent, calls.throttled);
    panel(out, top, CALLS_HEIGHT, &title, most, report.end);
    let bar = |out: &mut String, window: usize, from: f64, to: f64, colour: &str| {
        let (left, right) = (x(window_at(window), report.end), x(window_at(window + 1), report.end));
        let (from, to) = ((from / most).min(1.0) * CALLS_HEIGHT, (to / most).min(1.0) * CALLS_HEIGHT);
        if to > from {
            _ = writeln!(
                out,
                r#"<rect x="{left:.1}" y="{:.1}" width="{:.1}" height="{:.1}" fill="{colour}"/>"#,
                top + CALLS_HEIGHT - to,
                (right - left).max(0.5),
                to - from
            );
        }
    };
    for (window, (sent, throttled)) in calls.over_time.iter().enumerate() {
        // Throttled ones are counted when they were answered.
        let answered = f64::from(sent.saturating_sub(*throttled)) / each;
        let all = answered + f64::from(*throttled) / each;
        bar(out, window, 0.0, answered, ANSWERED);
        bar(out, window, answered, all, THROTTLED);
    }
    if let Some(rate) = rate.filter(|rate| *rate <= most) {
        let y = top + CALLS_HEIGHT * (1.0 - rate / most);
        _ = writeln!(
            out,
            r#"<line x1="{LEFT}" x2="{:.1}" y1="{y:.1}" y2="{y:.1}" stroke="{BOUND}" stroke-dasharray="4 3"/>"#,
            LEFT + WIDTH
        );
    }
}

/// Frame, title and figures of a panel.
fn panel(out: &mut String, top: f64, height: f64, title: &str, most: f64, end: Millis) {
    let bottom = top + height;
    _ = writeln!(
        out,
        r##"<text x="{LEFT}" y="{:.1}">{title}</text><rect x="{LEFT}" y="{top:.1}" width="{WIDTH}" height="{height}" fill="none" stroke="#cccccc"/>
<text x="{:.1}" y="{:.1}" text-anchor="end">{most:.0}</text><text x="{:.1}" y="{bottom:.1}" text-anchor="end">0</text>"##,
        top - 6.0,
        LEFT - 6.0,
        top + 10.0,
        LEFT - 6.0,
    );
    for quarter in 1..=4_u64 {
        let at = Millis(end.0 / 4 * quarter);
        _ = writeln!(
            out,
            r#"<text x="{:.1}" y="{:.1}" text-anchor="end">{:.0} s</text>"#,
            x(at, end),
            bottom + 14.0,
            at.0 as f64 / 1000.0
        );
    }
}

fn x(at: Millis, end: Millis) -> f64 {
    LEFT + (at.0 as f64 / end.0.max(1) as f64).min(1.0) * WIDTH
}

fn window_at(window: usize) -> Millis {
    Millis(FleetReport::WINDOW.0 * window as u64)
}

/// How many nodes are ready at the end of each of so many columns of time.
fn ready_by_column(report: &FleetReport, columns: usize) -> Vec<(Millis, u32)> {
    let column = |number: usize| {
        let at = Millis(report.end.0 * (number as u64 + 1) / columns as u64);
        let count = report.ready.partition_point(|ready| *ready <= at);
        (at, u32::try_from(count).unwrap_or(u32::MAX))
    };
    (0..columns).map(column).collect()
}

fn rate_of(report: &FleetReport, action: &str) -> Option<f64> {
    report.rates.get(action).map(|rate| f64::from(*rate))
}

/// The same in text: a line of bars for the nodes that are ready, and one for the calls of each action, answered and throttled.
#[must_use]
pub fn text(report: &FleetReport) -> String {
    let mut out = String::new();
    let line = |out: &mut String, name: &str, values: &[f64], most: f64, unit: &str| {
        let bars: String = values.iter().map(|value| bar(*value, most)).collect();
        _ = writeln!(out, "{name:>28} |{bars}| {most:.0}{unit}");
    };
    let ready: Vec<f64> = ready_by_column(report, COLUMNS).into_iter().map(|(_, count)| f64::from(count)).collect();
    line(&mut out, "nodes ready", &ready, f64::from(report.nodes()), "");
    for (action, calls) in &report.calls {
        let seconds = report.end.0 as f64 / 1000.0 / COLUMNS as f64;
        let each = |which: fn(&(u32, u32)) -> u32| -> Vec<f64> {
            let mut columns = vec![0.0; COLUMNS];
            for (window, counts) in calls.over_time.iter().enumerate() {
                let at = window_at(window).0 * COLUMNS as u64 / report.end.0.max(1);
                if let Some(column) = columns.get_mut(usize::try_from(at).unwrap_or(usize::MAX)) {
                    *column += f64::from(which(counts)) / seconds;
                }
            }
            columns
        };
        let (answered, throttled) =
            (each(|(sent, refused)| sent.saturating_sub(*refused)), each(|(_, refused)| *refused));
        let most = answered.iter().chain(&throttled).copied().fold(1.0, f64::max);
        line(&mut out, action, &answered, most, "/s answered");
        if calls.throttled > 0 {
            line(&mut out, "", &throttled, most, "/s throttled");
        }
    }
    _ = writeln!(out, "{:>28}  0 s{:>width$.0} s", "", report.end.0 as f64 / 1000.0, width = COLUMNS - 5);
    out
}

fn bar(value: f64, most: f64) -> char {
    let full = (BARS.len() - 1) as f64;
    let level = (value / most.max(f64::MIN_POSITIVE) * full).clamp(0.0, full);
    // Something is never drawn as nothing.
    let level = if value > 0.0 { level.max(1.0) } else { 0.0 };
    BARS.get(level.round() as usize).copied().unwrap_or(' ')
}
