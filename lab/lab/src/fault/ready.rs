//! Scenarios that come with the program, by name. They are about the built-in topology.

/// A scenario that comes with the program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReadyScenario {
    /// What it is asked for by.
    pub name: &'static str,
    /// The file.
    pub text: &'static str,
}

/// All of them.
pub const READY_SCENARIOS: [ReadyScenario; 6] = [
    ReadyScenario { name: "throttled-account", text: include_str!("../../scenarios/throttled-account.toml") },
    ReadyScenario { name: "imds-in-trouble", text: include_str!("../../scenarios/imds-in-trouble.toml") },
    ReadyScenario { name: "subnet-fills-up", text: include_str!("../../scenarios/subnet-fills-up.toml") },
    ReadyScenario { name: "daemon-dies", text: include_str!("../../scenarios/daemon-dies.toml") },
    ReadyScenario { name: "lost-answers", text: include_str!("../../scenarios/lost-answers.toml") },
    ReadyScenario { name: "reboot-under-load", text: include_str!("../../scenarios/reboot-under-load.toml") },
];

impl ReadyScenario {
    /// The one of that name.
    #[must_use]
    pub fn named(name: &str) -> Option<&'static Self> {
        READY_SCENARIOS.iter().find(|ready| ready.name == name)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::fault::Scenario;

    #[test]
    fn every_file_beside_them_is_a_ready_scenario_and_says_what_it_is_about() {
        let dir = concat!(env!("CARGO_MANIFEST_DIR"), "/scenarios");
        let mut files: Vec<_> =
            std::fs::read_dir(dir).unwrap().flatten().map(|entry| entry.file_name().into_string().unwrap()).collect();
        files.sort();
        let mut names: Vec<_> = READY_SCENARIOS.iter().map(|ready| format!("{}.toml", ready.name)).collect();
        names.sort();
        assert_eq!(files, names);
        for ready in READY_SCENARIOS {
            let scenario = Scenario::parse(ready.text).unwrap();
            assert!(!scenario.about.is_empty(), "{}", ready.name);
        }
    }
}
