//! Habits a machine can check: files a person can read, nothing that only works in one place.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs;
use std::path::{Path, PathBuf};

/// Nobody reads a longer file from end to end.
const LINES_MAX: usize = 900;

/// Files a machine writes, or a lawyer.
const NOT_WRITTEN_BY_HAND: &[&str] = &["Cargo.lock", "LICENSE", ".tsv", ".pcap", ".json", ".svg", ".png"];

/// Folders with nothing of the project in them.
const NOT_OURS: &[&str] = &["target", ".git", "dist", ".venv", "__pycache__", "node_modules"];

#[test]
fn files_can_be_read_by_a_person() {
    let long = texts().into_iter().filter_map(|(path, text)| {
        let lines = text.lines().count();
        (lines >= LINES_MAX && !by_machine(&path))
            .then(|| format!("{}: {lines} lines, at most {}", path.display(), LINES_MAX - 1))
    });
    let long: Vec<String> = long.collect();
    assert!(long.is_empty(), "split them by what they are about:\n{}", long.join("\n"));
}

#[test]
fn nothing_is_left_for_later() {
    // In two halves, so that this file does not mention them either.
    let marks = [
        concat!("TO", "DO"),
        concat!("FIX", "ME"),
        concat!("X", "XX:"),
        concat!("unimple", "mented!("),
        concat!("to", "do!("),
    ];
    let found = mentions(&marks, |path| !by_machine(path));
    assert!(found.is_empty(), "do it, or write an issue:\n{}", found.join("\n"));
}

#[test]
fn the_project_works_wherever_it_lies() {
    // A path of the machine this was checked out on has no business in a file; a folder beside the checkout neither.
    let here = e2e::root();
    let beside = concat!("..", "/shared");
    let deep = here.components().count() > 2;
    let marks: Vec<&str> = deep.then(|| here.to_str().unwrap()).into_iter().chain([beside]).collect();
    let found = mentions(&marks, |_| true);
    assert!(found.is_empty(), "copy the fact into the project:\n{}", found.join("\n"));
}

#[test]
fn dependencies_come_from_crates_io() {
    let lock = fs::read_to_string(e2e::root().join("Cargo.lock")).unwrap();
    let sources = lock.lines().filter_map(|line| line.strip_prefix("source = "));
    let strange: Vec<&str> =
        sources.filter(|source| *source != "\"registry+https://github.com/rust-lang/crates.io-index\"").collect();
    assert!(strange.is_empty(), "not from crates.io: {strange:?}");
    let own = fs::read_to_string(e2e::root().join(".cargo/config.toml")).unwrap();
    assert!(
        !own.contains("[source"),
        "a source replacement belongs into the configuration of a machine, not of the project"
    );
}

/// Every link in our documents that points into the project points at something.
#[test]
fn links_in_documents_lead_somewhere() {
    let mut dead = Vec::new();
    for (path, text) in texts().into_iter().filter(|(path, _)| path.extension().is_some_and(|end| end == "md")) {
        let folder = e2e::root().join(&path).parent().unwrap().to_path_buf();
        for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let file = link.split('#').next().unwrap();
            if !file.is_empty() && !link.contains("://") && !folder.join(file).exists() {
                dead.push(format!("{}: {link}", path.display()));
            }
        }
    }
    assert!(dead.is_empty(), "dead links:\n{}", dead.join("\n"));
}

fn by_machine(path: &Path) -> bool {
    let name = path.file_name().unwrap().to_string_lossy();
    NOT_WRITTEN_BY_HAND.iter().any(|end| name.ends_with(end))
}

/// `file:line: text` of every line that has one of the marks in it.
fn mentions(marks: &[&str], in_file: impl Fn(&Path) -> bool) -> Vec<String> {
    let mut found = Vec::new();
    for (path, text) in texts().into_iter().filter(|(path, _)| in_file(path)) {
        for (number, line) in text.lines().enumerate().filter(|(_, line)| marks.iter().any(|mark| line.contains(mark)))
        {
            found.push(format!("{}:{}: {}", path.display(), number + 1, line.trim()));
        }
    }
    found
}

/// Every text file of the project, by its path below the root.
fn texts() -> Vec<(PathBuf, String)> {
    let root = e2e::root();
    let mut texts = Vec::new();
    let mut folders = vec![root.clone()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap().map(Result::unwrap) {
            let path = entry.path();
            let kind = entry.file_type().unwrap();
            if kind.is_dir() && !NOT_OURS.contains(&entry.file_name().to_str().unwrap()) {
                folders.push(path);
            } else if kind.is_file()
                && let Ok(text) = fs::read_to_string(&path)
            {
                texts.push((path.strip_prefix(&root).unwrap().to_path_buf(), text));
            }
        }
    }
    assert!(
        texts.len() > 50,
        "only {} files found below {}: this test looks in the wrong place",
        texts.len(),
        root.display()
    );
    texts
}
