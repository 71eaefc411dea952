//! What the test harness printed, counted.
//!
//! The harness knows passed, failed and ignored. A test that cannot run for want of a tool returns early, which the harness takes
//! for passed. Such a test prints a line `SKIPPED <test name>: <reason>` (which the harness shows among the successes), or leaves
//! `<test name>: <reason>` in the file that `VPC_CNI_SKIPS` names, or both. The tally moves it from *passed* to *skipped*, so that
//! nothing counts as passed that did not run.

use std::collections::BTreeSet;

/// Counts over any number of suites.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    /// Tests that ran and held.
    pub(crate) passed: usize,
    /// Tests that ran and did not hold, by name.
    pub(crate) failed: Vec<String>,
    /// Tests that did not run, with the reason.
    pub(crate) skipped: BTreeSet<String>,
    /// What tests told about themselves.
    told: BTreeSet<String>,
    in_successes: bool,
    suites_begun: usize,
    suites_ended: usize,
    failures_counted: usize,
}

impl Tally {
    /// Takes one line the harness printed. Says whether a person wants to see it.
    pub(crate) fn line(&mut self, line: &str) -> bool {
        if line == "successes:" || line == "failures:" {
            self.in_successes = line == "successes:";
            return !self.in_successes;
        }
        if let Some(skip) = line.strip_prefix("SKIPPED ") {
            self.told.insert(skip.to_owned());
        }
        if let Some(result) = line.strip_prefix("test result: ") {
            self.in_successes = false;
            self.suites_ended += 1;
            self.passed += count(result, "passed");
            self.failures_counted += count(result, "failed");
            // A suite without tests is no news.
            return count(result, "passed") + count(result, "failed") + count(result, "ignored") > 0;
        }
        if is_header(line) {
            self.suites_begun += 1;
            return false;
        }
        let Some((name, outcome)) = line.strip_prefix("test ").and_then(|test| test.split_once(" ... ")) else {
            return !line.is_empty() && !self.in_successes;
        };
        if outcome == "FAILED" {
            self.failed.push(name.to_owned());
        } else if let Some(reason) = outcome.strip_prefix("ignored") {
            let reason = reason.trim_start_matches([',', ' ']);
            self.skipped
                .insert(format!("{name}: {}", if reason.is_empty() { "ignored without a reason" } else { reason }));
        }
        outcome == "FAILED"
    }

    /// Takes the lines tests left in the file of skips.
    pub(crate) fn skips(&mut self, file: &str) {
        self.told.extend(file.lines().filter(|line| !line.trim().is_empty()).map(str::to_owned));
    }

    /// At the end of a run of cargo: suites that began and never gave a result have failed, and so has a run that cargo itself
    /// calls a failure although every suite that ran was well (it did not compile, say).
    pub(crate) fn end(&mut self, cargo_succeeded: bool) {
        let told = std::mem::take(&mut self.told);
        self.passed = self.passed.saturating_sub(told.len());
        self.skipped.extend(told);
        for _ in self.failed.len()..self.failures_counted {
            self.failed.push("a test whose name was lost in its own output (see above)".to_owned());
        }
        for _ in self.suites_ended..self.suites_begun {
            self.failed.push("a suite that ended without a result (see above)".to_owned());
        }
        if !cargo_succeeded && self.failed.is_empty() {
            self.failed.push("cargo test itself (see above)".to_owned());
        }
        (self.suites_begun, self.suites_ended, self.failures_counted) = (0, 0, 0);
    }

    /// Adds another tally.
    pub(crate) fn add(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed.extend(other.failed);
        self.skipped.extend(other.skipped);
    }
}

impl std::fmt::Display for Tally {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} passed, {} failed, {} skipped", self.passed, self.failed.len(), self.skipped.len())
    }
}

/// `running 12 tests`, `running 1 test`.
fn is_header(line: &str) -> bool {
    let Some(rest) = line.strip_prefix("running ") else { return false };
    let rest = rest.strip_suffix(" tests").or_else(|| rest.strip_suffix(" test"));
    rest.is_some_and(|number| number.parse::<usize>().is_ok())
}

/// The number before `word`: `ok. 5 passed; 0 failed; …`.
fn count(result: &str, word: &str) -> usize {
    let words: Vec<&str> = result.split([' ', ';']).filter(|word| !word.is_empty()).collect();
    words.windows(2).find(|pair| pair[1] == word).and_then(|pair| pair[0].parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PRINTED: &str = "
running 4 tests
test a::holds ... ok
test a::breaks ... FAILED
test a::later ... ignored, needs a kernel with X
test b::holds ... ok

failures:

---- a::breaks stdout ----
thread panicked: one is not two

test result: FAILED. 2 passed; 1 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.01s

running 0 tests

test result: ok. 0 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.00s
";

    fn tally(printed: &str) -> Tally {
        let mut tally = Tally::default();
        for line in printed.lines() {
            tally.line(line);
        }
        tally
    }

    #[test]
    fn every_outcome_is_counted_and_named() {
        let mut tally = tally(PRINTED);
        tally.end(false);
        assert_eq!(tally.to_string(), "2 passed, 1 failed, 1 skipped");
        assert_eq!(tally.failed, ["a::breaks"]);
        assert!(tally.skipped.contains("a::later: needs a kernel with X"));
    }

    #[test]
    fn only_news_is_shown() {
        let mut tally = Tally::default();
        let shown: Vec<&str> = PRINTED.lines().filter(|line| tally.line(line)).collect();
        assert_eq!(shown.len(), 5, "{shown:#?}");
        assert_eq!(shown[0], "test a::breaks ... FAILED");
    }

    #[test]
    fn a_test_that_told_it_was_skipped_has_not_passed() {
        let mut tally = tally(PRINTED);
        tally.skips("b::holds: python3 is not here\n\nb::holds: python3 is not here\n");
        tally.end(false);
        assert_eq!(tally.to_string(), "1 passed, 1 failed, 2 skipped");
    }

    #[test]
    fn what_successes_printed_is_hidden_and_their_skips_are_counted() {
        let printed = "running 2 tests\ntest a::looks ... ok\ntest b::holds ... ok\n\nsuccesses:\n\n---- a::looks stdout ----\n\
                       SKIPPED a::looks: `ip` is not installed\nhello\n\n\nsuccesses:\n    a::looks\n    b::holds\n\n\
                       test result: ok. 2 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.01s\n";
        let mut tally = Tally::default();
        let shown: Vec<&str> = printed.lines().filter(|line| tally.line(line)).collect();
        assert_eq!(shown.len(), 1, "{shown:#?}");
        // Told twice, on the output and in the file: one test.
        tally.skips("a::looks: `ip` is not installed\n");
        tally.end(true);
        assert_eq!(tally.to_string(), "1 passed, 0 failed, 1 skipped");
    }

    #[test]
    fn a_suite_that_dies_has_failed() {
        let mut tally = tally("running 3 tests\ntest a::holds ... ok\n");
        tally.end(false);
        assert_eq!(tally.to_string(), "0 passed, 1 failed, 0 skipped");
    }

    #[test]
    fn a_run_that_does_not_compile_has_failed() {
        let mut tally = tally("");
        tally.end(false);
        assert_eq!(tally.to_string(), "0 passed, 1 failed, 0 skipped");
        let mut tally = Tally::default();
        tally.end(true);
        assert_eq!(tally.to_string(), "0 passed, 0 failed, 0 skipped");
    }

    #[test]
    fn a_failure_whose_line_was_torn_still_counts() {
        let torn = "running 1 test\ntest a::breaks ... some output\nFAILED\ntest result: FAILED. 0 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.01s\n";
        let mut tally = tally(torn);
        tally.end(false);
        assert_eq!(tally.failed.len(), 1);
    }
}
