//! The table of `cargo xtask bench plugin`: figure, ours, controls, ratios, goal.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::plugin::{BARE, OURS, PTP};

/// One contestant's lists of numbers.
pub(super) struct Column {
    pub(super) name: String,
    pub(super) figures: BTreeMap<String, Vec<f64>>,
}

impl Column {
    /// The value below which that part of the list lies.
    fn quantile(&self, figure: &str, part: f64) -> Option<f64> {
        quantile(self.figures.get(figure)?, part)
    }
}

fn quantile(list: &[f64], part: f64) -> Option<f64> {
    let mut sorted = list.to_vec();
    sorted.sort_by(f64::total_cmp);
    let at = (sorted.len() as f64 * part) as usize;
    sorted.get(at.min(sorted.len().checked_sub(1)?)).copied()
}

/// How a figure is made of its lists.
#[derive(Clone, Copy)]
enum How {
    Median(&'static str),
    Quantile(&'static str, f64),
    /// By how many percent the median of the second is above that of the first.
    Growth(&'static str, &'static str),
    Megabytes(&'static str),
    Mean(&'static str),
}

impl How {
    fn of(self, column: &Column) -> Option<f64> {
        match self {
            Self::Median(figure) => column.quantile(figure, 0.5),
            Self::Quantile(figure, part) => column.quantile(figure, part),
            Self::Growth(first, last) => {
                Some((column.quantile(last, 0.5)? / column.quantile(first, 0.5)? - 1.0) * 100.0)
            }
            Self::Megabytes(figure) => Some(column.quantile(figure, 0.5)? / 1e6),
            Self::Mean(figure) => {
                let list = column.figures.get(figure).filter(|list| !list.is_empty())?;
                Some(list.iter().sum::<f64>() / list.len() as f64)
            }
        }
    }
}

/// What is asked of a figure.
#[derive(Clone, Copy)]
enum Goal {
    AtMost(f64),
    AtLeast(f64),
    None,
}

impl Goal {
    fn shown(self) -> String {
        match self {
            Self::AtMost(most) => format!("<= {most}"),
            Self::AtLeast(least) => format!(">= {least}"),
            Self::None => String::new(),
        }
    }

    fn missed(self, value: f64) -> bool {
        match self {
            Self::AtMost(most) => value > most,
            Self::AtLeast(least) => value < least,
            Self::None => false,
        }
    }
}

/// The lines, in order.
const LINES: [(&str, &str, How, Goal); 17] = [
    ("ADD p50, one by one", "ms", How::Median("add"), Goal::AtMost(1.6)),
    ("ADD p10, one by one", "ms", How::Quantile("add", 0.1), Goal::None),
    ("ADD p50, 30 at once", "ms", How::Median("add_many"), Goal::AtMost(30.0)),
    ("ADD p99, 30 at once", "ms", How::Quantile("add_many", 0.99), Goal::AtMost(60.0)),
    ("DEL p50, one by one", "ms", How::Median("del"), Goal::None),
    ("DEL p50 until the link is gone, one by one", "ms", How::Median("del_gone"), Goal::None),
    ("DEL p50, 30 at once", "ms", How::Median("del_many"), Goal::AtMost(15.0)),
    ("DEL p50 until the link is gone, 30 at once", "ms", How::Median("del_gone_many"), Goal::AtMost(50.0)),
    ("operations a second, half ADD half DEL", "/s", How::Mean("operations_a_second"), Goal::AtLeast(700.0)),
    ("processor time of an ADD, one by one", "ms", How::Median("add_cpu"), Goal::AtMost(1.5)),
    ("processor time of an ADD, 30 at once", "ms", How::Median("add_many_cpu"), Goal::AtMost(1.5)),
    ("processor time of a DEL, one by one", "ms", How::Median("del_cpu"), Goal::AtMost(1.5)),
    ("processor time of a DEL, 30 at once", "ms", How::Median("del_many_cpu"), Goal::AtMost(1.5)),
    ("most memory resident in an ADD", "MB", How::Megabytes("peak_rss_bytes"), Goal::AtMost(4.0)),
    ("ADD p50 with no other pod", "ms", How::Median("add_first"), Goal::None),
    ("ADD p50 on the full node", "ms", How::Median("add_last"), Goal::None),
    ("growth of ADD from no pod to all", "%", How::Growth("add_first", "add_last"), Goal::AtMost(50.0)),
];

/// Goals of the table's own lines.
const SIZE_GOAL: f64 = 2.0;
const TIMES_PTP: f64 = 5.0;

/// The whole table; the size is that of our program in bytes.
pub(super) fn table(columns: &[Column], size: f64) -> String {
    let Some(ours) = columns.iter().find(|column| column.name == OURS) else {
        return "nothing was measured\n".to_owned();
    };
    let beside: Vec<&Column> = columns.iter().filter(|column| column.name != OURS).collect();
    let mut out = format!("{:<44} {:>9} {:>9}   ", "figure", OURS, "goal");
    for column in &beside {
        let _ = write!(out, " {:>15} {:>7}", column.name, "ratio");
    }
    out.push('\n');
    let mut line = |name: &str, unit: &str, goal: Goal, own: f64, others: Vec<Option<f64>>| {
        let mark = if goal.missed(own) { "!" } else { " " };
        let _ = write!(out, "{name:<44} {own:>9.2} {:>9} {unit:<2}{mark}", goal.shown());
        for value in others {
            match value {
                Some(value) => {
                    let _ = write!(out, " {value:>15.2} {:>7.2}", own / value);
                }
                None => out.push_str(&" ".repeat(24)),
            }
        }
        out.truncate(out.trim_end_matches(' ').len());
        out.push('\n');
    };
    for (name, unit, how, goal) in LINES {
        if let Some(own) = how.of(ours) {
            line(name, unit, goal, own, beside.iter().map(|column| how.of(column)).collect());
        }
    }
    line("size of the program", "MB", Goal::AtMost(SIZE_GOAL), size / 1e6, Vec::new());
    // Each in its turn with the other, not with the bare kernel.
    let slower = beside
        .iter()
        .find(|column| column.name == PTP)
        .and_then(|ptp| Some(ptp.quantile("add", 0.5)? / ptp.quantile("add_beside", 0.5)?));
    if let Some(slower) = slower {
        line("ADD p50: how many times ptp+host-local's", "x", Goal::AtLeast(TIMES_PTP), slower, Vec::new());
    }
    if beside.iter().any(|column| column.name == BARE) {
        out.push_str("`!`: the goal is missed. The bare kernel: an empty process, and the same links, addresses, routes and rules.\n");
    }
    out
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn column(name: &str, figures: &[(&str, &[f64])]) -> Column {
        let figures = figures.iter().map(|(name, list)| ((*name).to_owned(), list.to_vec())).collect();
        Column { name: name.to_owned(), figures }
    }

    #[test]
    fn a_line_has_figure_goal_control_and_ratio_and_a_missed_goal_is_marked() {
        let columns = [
            column(
                OURS,
                &[("add", &[2.0, 1.0, 3.0]), ("del_many", &[16.0]), ("add_first", &[2.0]), ("add_last", &[3.0])],
            ),
            column(BARE, &[("add", &[1.0])]),
            column(PTP, &[("add", &[20.0]), ("add_beside", &[2.5])]),
        ];
        let table = table(&columns, 900_000.0);
        let words = |start: &str| -> Vec<String> {
            let line = table.lines().find(|line| line.starts_with(start)).unwrap();
            line[start.len()..].split_whitespace().map(str::to_owned).collect()
        };
        assert_eq!(words("ADD p50, one by one"), ["2.00", "<=", "1.6", "ms!", "1.00", "2.00", "20.00", "0.10"]);
        assert_eq!(words("DEL p50, 30 at once"), ["16.00", "<=", "15", "ms!"]);
        assert_eq!(words("growth of ADD from no pod to all"), ["50.00", "<=", "50", "%"]);
        assert_eq!(words("size of the program"), ["0.90", "<=", "2", "MB"]);
        assert_eq!(words("ADD p50: how many times ptp+host-local's"), ["8.00", ">=", "5", "x"]);
        assert!(!table.contains("operations"), "what was not measured has no line\n{table}");
    }

    #[test]
    fn quantiles_are_values_of_the_list() {
        let list: Vec<f64> = (1..=100).rev().map(f64::from).collect();
        assert_eq!(
            (quantile(&list, 0.5), quantile(&list, 0.99), quantile(&[7.0], 0.99)),
            (Some(51.0), Some(100.0), Some(7.0))
        );
        assert_eq!(quantile(&[], 0.5), None);
    }
}
