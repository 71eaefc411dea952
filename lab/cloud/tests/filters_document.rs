//! `docs/lab-filters.md` says what the tables of the Describe actions say. Run with `UPDATE_DOCS=1` to write it anew.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fmt::Write as _;
use std::{env, fs};

use lab_cloud::{ActionFilters, filter_catalogue};

const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/lab-filters.md");

const HEAD: &str = "\
# Filters of the lab's EC2

Written by `UPDATE_DOCS=1 cargo test -p lab-cloud --test filters_document` from the tables that the lab itself uses; do not
edit.

Each action has every filter that AWS documents for it:

- A *supported* filter compares what the answer shows. Values are case-sensitive; `*` stands for any text, `?` for any one
  character, and `\\` takes away the meaning of the next character. Times are compared as text (`2026-11-21T07:05:09.000Z`,
  `2026-11-21T*`), truth values as `true` and `false`. Of several values any one must fit, of several filters all must hold.
- A filter that is *refused by name* compares something the lab does not model. A call with it fails with
  `UnsupportedOperation` and a message that names it: a lab that passed over it would give a wrong answer.
- Any other name is `InvalidParameterValue`, `The filter '<name>' is invalid`.

At most 50 filters in a call, 200 values in a filter (`FilterLimitExceeded`) and 255 characters in a value. `MaxResults` out of
its range is `InvalidParameterValue`; a `NextToken` that this action of this lab has not given is `InvalidNextToken`.
";

fn document() -> String {
    let mut text = HEAD.to_owned();
    for action in filter_catalogue() {
        write!(text, "\n## {}\n\n{}\n", action.action, pages(&action)).unwrap();
        for (title, supported) in [("Supported", true), ("Refused by name", false)] {
            let names: Vec<_> = action.filters.iter().filter(|f| f.supported == supported).map(|f| f.name).collect();
            if !names.is_empty() {
                writeln!(text, "\n{title}:\n").unwrap();
                names.iter().for_each(|name| writeln!(text, "- `{name}`").unwrap());
            }
        }
    }
    text
}

fn pages(action: &ActionFilters) -> String {
    let Some((least, most)) = action.max_results else { return "Everything comes in one answer.".to_owned() };
    let ids = if action.ids_exclude_max_results { ", not together with ids" } else { "" };
    format!("`MaxResults`: {least} to {most}{ids}.")
}

#[test]
fn the_document_of_filters_is_the_catalogue() {
    let document = document();
    if env::var_os("UPDATE_DOCS").is_some() {
        fs::write(FILE, &document).unwrap();
    }
    let written = fs::read_to_string(FILE).unwrap_or_default();
    assert!(written == document, "docs/lab-filters.md is out of date: run this test with UPDATE_DOCS=1");
}

#[test]
fn no_action_has_a_filter_twice() {
    for action in filter_catalogue() {
        let mut names: Vec<_> = action.filters.iter().map(|filter| filter.name).collect();
        let all = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), all, "{}", action.action);
    }
}
