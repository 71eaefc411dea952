//! The settings as people read them: what holds on this node, and the table for the documentation.

use std::fmt::Write as _;

use crate::settings::sections::{SECTIONS, Section, changes_in_place};
use crate::settings::table::{OnBad, Parser, Variable};
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
            Origin::File => "set in the file",
            Origin::FellBack => "default, the value was not taken",
        };
        let value = if row.value.is_empty() { "-" } else { &row.value };
        let _ = writeln!(text, "{:width$}  {value}  ({origin})", row.name);
    }
    text
}

/// The tables of all variables as Markdown, section by section.
#[must_use]
pub fn markdown() -> String {
    let mut text = String::new();
    for (at, section) in SECTIONS.iter().enumerate() {
        if at > 0 {
            text.push('\n');
        }
        text.push_str(&table(section));
    }
    text
}

/// One section's table, for `docs/configuration.md`.
#[must_use]
pub fn table(section: &Section) -> String {
    let mut text = String::from(
        "| Variable | Default | Accepted | Parser | A bad value | Changes | What it does |\n|---|---|---|---|---|---|---|\n",
    );
    for var in section.variables {
        let _ = writeln!(
            text,
            "| `{}` | {} | {} | {:?} | {} | {} | {} |",
            var.name,
            default(var),
            accepted(var),
            var.parser,
            otherwise(var),
            if changes_in_place(var.name) { "in place" } else { "restart" },
            var.about
        );
    }
    text
}

fn default(var: &Variable) -> String {
    if var.default.is_empty() { "not set".to_owned() } else { format!("`{}`", var.default) }
}

fn accepted(var: &Variable) -> &'static str {
    if matches!(var.parser, Parser::B1 | Parser::B2) { "boolean" } else { var.accepted }
}

fn otherwise(var: &Variable) -> &'static str {
    match (var.on_bad, var.parser) {
        (OnBad::Exit, _) => "refused",
        (OnBad::Default, Parser::L1) => "item left out",
        (OnBad::Default, _) => "default",
        (OnBad::Taken, _) => "taken as it is",
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;
    use crate::settings::sections::all;
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
        for var in all() {
            assert!(text.lines().any(|line| line.starts_with(&format!("{} ", var.name))), "{}", var.name);
        }
    }

    /// The page with each table as the program has it.
    fn with_tables(page: &str) -> String {
        let mut text = page.to_owned();
        for section in SECTIONS {
            let mark = format!("<!-- table: {} -->\n", section.name);
            let (before, rest) = text.split_once(&mark).expect(&mark);
            let (_, after) = rest.split_once("<!-- end -->").expect("the end of a table");
            text = format!("{before}{mark}{}<!-- end -->{after}", table(section));
        }
        text
    }

    #[test]
    fn the_documentation_has_the_program_s_tables() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/configuration.md");
        let page = std::fs::read_to_string(path).unwrap();
        let expected = with_tables(&page);
        if std::env::var_os("UPDATE_DOCS").is_some() {
            std::fs::write(path, &expected).unwrap();
            return;
        }
        assert!(page == expected, "docs/configuration.md is out of date: run this test with UPDATE_DOCS=1");
    }

    #[test]
    fn the_documentation_s_tables_have_seven_cells_in_every_row() {
        for line in markdown().lines().filter(|line| !line.is_empty()) {
            assert_eq!(line.matches(" | ").count(), if line.starts_with("|---") { 0 } else { 6 }, "{line}");
        }
        assert_eq!(markdown().lines().filter(|line| line.starts_with("| `")).count(), all().count());
    }
}
