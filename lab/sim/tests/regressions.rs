//! Histories that once went wrong: nothing may be wrong in any of them again.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::path::{Path, PathBuf};

use lab_sim::{History, replay};

#[test]
fn nothing_is_wrong_in_histories_that_once_went_wrong() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("regressions");
    let entries = std::fs::read_dir(&folder).expect("the folder of regressions");
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.expect("an entry").path()).collect();
    files.retain(|file| file.extension().is_some_and(|ending| ending == "toml"));
    files.sort();
    assert!(!files.is_empty(), "no history is kept in {}", folder.display());
    let mut wrong = String::new();
    for file in &files {
        let text = std::fs::read_to_string(file).expect("a regression");
        assert!(text.starts_with('#'), "{}: the first line says what was wrong, as a comment", file.display());
        let history = History::from_text(&text).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        let run = replay(&history).expect("its world");
        assert!(run.report.steps > 0, "{}: nothing happens", file.display());
        if let Some(why) = run.why {
            wrong += &format!("{}: {why}\n{}\n", file.display(), run.story);
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}
