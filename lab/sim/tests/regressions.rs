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

/// People write histories by hand: what is wrong is said in their words, not in the program's.
#[test]
fn what_is_wrong_with_a_history_is_said_in_the_words_of_the_file() {
    let fine = "seed = 1\npace = \"instant\"\nlagging = false\nsubnet = \"10.20.128.0/20\"\ncalm-ms = 1000\nfeatures = []\n\
                [[node]]\ninstance-type = \"t3.small\"\nstart-ms = 0\n[node.settings]\n";
    History::from_text(fine).unwrap();
    let wrong: [(String, &str); 9] = [
        (fine.replace("[node.settings]\n", "settings = 1\n"), "a table of settings"),
        (
            fine.replace("[[node]]", "node = [3]\n#").replace("[node.settings]", "").replace("instance-type", "#"),
            "a node: a table",
        ),
        (format!("{fine}warm = true\n"), "wanted string or table"),
        (format!("{fine}ec2 = 7\n"), ""),
        (format!("{fine}[[act]]\nat-ms = 0\ndo = 3\n"), ""),
        (format!("act = [1]\n{fine}"), "an act: a table with at-ms"),
        (fine.replace("\"instant\"", "1"), ""),
        (fine.replace("features = []", "features = [1]"), ""),
        (fine.replace("seed = 1", "seed = \"x\""), "line 1"),
    ];
    for (text, expected) in wrong {
        let error = History::from_text(&text).unwrap_err().to_string();
        assert!(error.contains(expected), "{text}: {error}");
        for foreign in ["struct ", "enum ", "NodePlan", "Settings"] {
            assert!(!error.contains(foreign), "{text}: {error}");
        }
    }
}
