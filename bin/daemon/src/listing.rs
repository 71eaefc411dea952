//! The settings as people read them: what holds on this node, and the table for the documentation.

use std::fmt::Write as _;

use crate::settings::table::{ALL, OnBad, Variable};
use crate::settings::{Checked, Origin, Verdict};

/// What was found and what holds, line by line.
#[must_use]
pub fn report(checked: &Checked) -> String {
    let mut text = String::new();
    for finding in &checked.findings {
        let head = match finding.verdict {
            Verdict::Refused => "refused",
            Verdict::FellBack { .. } => "default taken",
            Verdict::Ineffective => "no effect",
            Verdict::Note => "note",
        };
        // Writing to a string can not fail.
        let _ = writeln!(text, "{head}: {finding}");
    }
    if !checked.findings.is_empty() {
        text.push('\n');
    }
    let width = checked.rows.iter().map(|row| row.name.len()).max().unwrap_or(0);
    for row in &checked.rows {
        let origin = match row.origin {
            Origin::Default => "default",
            Origin::Environment => "set",
            Origin::FellBack => "default, the value was not taken",
        };
        let value = if row.value.is_empty() { "-" } else { &row.value };
        let _ = writeln!(text, "{:width$}  {value}  ({origin})", row.name);
    }
    text
}

/// The table of all variables as Markdown, for `docs/configuration.md`.
#[must_use]
pub fn markdown() -> String {
    let mut text =
        String::from("| Variable | Default | Accepted | Otherwise | What it does |\n|---|---|---|---|---|\n");
    for var in ALL {
        let _ = writeln!(
            text,
            "| `{}` | {} | {} | {} | {} |",
            var.name,
            default(var),
            var.accepted,
            otherwise(var),
            var.about
        );
    }
    text
}

fn default(var: &Variable) -> String {
    if var.default.is_empty() { "not set".to_owned() } else { format!("`{}`", var.default) }
}

fn otherwise(var: &Variable) -> &'static str {
    match var.on_bad {
        OnBad::Exit => "does not start",
        OnBad::Default => "default, with an error line",
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;
    use crate::settings::{Env, check};

    #[test]
    fn the_report_names_every_finding_and_every_setting() {
        let env = Env::from([("WARM_ENI_TARGET".to_owned(), "x".to_owned()), ("POD_MTU".to_owned(), "1".to_owned())]);
        let text = report(&check(&env));
        assert!(
            text.contains("default taken: WARM_ENI_TARGET=`x`: expected an integer of 0 or more; using `1`\n"),
            "{text}"
        );
        assert!(text.contains("refused: POD_MTU=`1`: expected an integer from 576"), "{text}");
        for var in ALL {
            assert!(text.lines().any(|line| line.starts_with(&format!("{} ", var.name))), "{}", var.name);
        }
    }

    #[test]
    fn the_documentation_s_table_has_five_cells_in_every_row() {
        for line in markdown().lines() {
            assert_eq!(line.matches(" | ").count(), if line.starts_with("|---") { 0 } else { 4 }, "{line}");
        }
        assert_eq!(markdown().lines().count(), ALL.len() + 2);
    }
}
