//! What is shipped has no deliberate bug in it (feature `deliberate-bugs`, `core/ipam/src/bugs.rs`).
//!
//! Wherever such a bug is in a program, its name is: that is looked for in the files themselves. That a build with the feature has
//! the names is shown where it is built: `lab/sim/tests/bugs.rs`, and `cargo xtask dist` looks too.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs;
use std::path::PathBuf;

use cargo_metadata::MetadataCommand;
use e2e::{program, root, skip};

const FEATURE: &str = "deliberate-bugs";
const PROGRAMS: [&str; 4] = ["aws-cni", "egress-cni", "aws-k8s-agent", "vpc-lab"];

/// The bugs' names: string literals of their source that are words with hyphens between them.
fn names() -> Vec<String> {
    let text = fs::read_to_string(root().join("core/ipam/src/bugs.rs")).unwrap();
    let is_name =
        |word: &&str| word.contains('-') && word.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-');
    let names: Vec<String> = text.split('"').filter(is_name).map(str::to_owned).collect();
    assert!(names.len() >= 12 && names.iter().any(|name| name == "answer-before-checkpoint"), "{names:?}");
    names
}

/// The program as tests use it, and as the release and the shipped one where those have been built.
fn builds(name: &str) -> Result<Vec<PathBuf>, String> {
    let ours = program(name)?;
    let target = ours.parent().and_then(|folder| folder.parent()).unwrap().to_path_buf();
    let others = [target.join("release").join(name), target.join("dist").join(name)];
    Ok(std::iter::once(ours).chain(others.into_iter().filter(|path| path.is_file())).collect())
}

#[test]
fn no_program_has_a_deliberate_bug_in_it() {
    const TEST: &str = "no_program_has_a_deliberate_bug_in_it";
    let names = names();
    for name in PROGRAMS {
        let builds = match builds(name) {
            Ok(builds) => builds,
            Err(reason) => return skip(TEST, &reason),
        };
        for path in builds {
            let file = fs::read(&path).unwrap();
            let text = String::from_utf8_lossy(&file);
            let found: Vec<&String> = names.iter().filter(|bug| text.contains(bug.as_str())).collect();
            assert!(found.is_empty(), "{} has {found:?}", path.display());
            println!("{}: {} bytes, none of {} names", path.display(), file.len(), names.len());
        }
    }
}

#[test]
fn nothing_switches_the_bugs_on_by_itself() {
    let metadata = MetadataCommand::new().manifest_path(root().join("Cargo.toml")).no_deps().exec().unwrap();
    let mut have = Vec::new();
    let mut wrong = Vec::new();
    for package in metadata.workspace_packages() {
        for (feature, implied) in &package.features {
            let bugs = |name: &String| name.ends_with(FEATURE);
            if feature == FEATURE {
                have.push(package.name.to_string());
            } else if implied.iter().any(bugs) {
                wrong.push(format!("{}'s feature {feature} switches them on", package.name));
            }
        }
        for dependency in package.dependencies.iter().filter(|lean| lean.features.iter().any(|name| name == FEATURE)) {
            wrong.push(format!("{} asks {} for them", package.name, dependency.name));
        }
    }
    assert!(wrong.is_empty(), "{wrong:?}");
    assert!(have.iter().any(|name| name == "vpc-ipam") && have.iter().any(|name| name == "vpc-agent"), "{have:?}");
}
