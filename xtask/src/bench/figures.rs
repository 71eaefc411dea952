//! A figure, its control, and how they are printed.

use std::fmt::Write;

use anyhow::Error;

/// One line of the table.
#[derive(Debug)]
pub(crate) struct Figure {
    name: String,
    taken: Result<Taken, String>,
}

#[derive(Debug)]
struct Taken {
    ours_ms: f64,
    control: &'static str,
    control_ms: f64,
    /// What we would like.
    goal_ms: f64,
    /// What it should not exceed on two cores.
    most_ms: f64,
}

impl Figure {
    pub(crate) fn of(
        name: &str,
        ours_ms: f64,
        control: &'static str,
        control_ms: f64,
        goal_ms: f64,
        most_ms: f64,
    ) -> Self {
        Self { name: name.to_owned(), taken: Ok(Taken { ours_ms, control, control_ms, goal_ms, most_ms }) }
    }

    /// A figure that could not be taken.
    pub(crate) fn lost(name: &str, why: &Error) -> Self {
        Self { name: name.to_owned(), taken: Err(format!("{why:#}")) }
    }
}

/// The middle one; the upper of two.
pub(crate) fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN)
}

/// All of them.
pub(crate) fn table(figures: &[Figure]) -> String {
    let mut out = format!(
        "{:<32} {:>10} {:>10} {:>8} {:>10} {:>10}  control\n",
        "figure (ms)", "ours", "control", "ratio", "at most", "goal"
    );
    for Figure { name, taken } in figures {
        let line = match taken {
            Ok(t) => format!(
                "{name:<32} {:>10.2} {:>10.2} {:>8.2} {:>10.1} {:>10.1}  {}{}",
                t.ours_ms,
                t.control_ms,
                t.ours_ms / t.control_ms,
                t.most_ms,
                t.goal_ms,
                t.control,
                if t.ours_ms > t.most_ms { "  (above)" } else { "" },
            ),
            Err(why) => format!("{name:<32} not measured: {why}"),
        };
        let _ = writeln!(out, "{line}");
    }
    out
}

#[cfg(test)]
#[allow(clippy::float_cmp)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle_one() {
        assert_eq!(median(&[3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&[4.0, 1.0]), 4.0);
        assert!(median(&[]).is_nan());
    }

    #[test]
    fn a_figure_above_its_limit_says_so_and_a_lost_one_says_why() {
        let figures = [
            Figure::of("fast", 1.0, "bare", 0.5, 1.6, 3.0),
            Figure::of("slow", 4.0, "bare", 0.5, 1.6, 3.0),
            Figure::lost("lost", &anyhow::anyhow!("no lab")),
        ];
        let table = table(&figures);
        let lines: Vec<&str> = table.lines().collect();
        assert!(lines[1].contains("2.00") && !lines[1].contains("above"), "{table}");
        assert!(lines[2].contains("8.00") && lines[2].contains("(above)"), "{table}");
        assert!(lines[3].contains("not measured: no lab"), "{table}");
    }
}
