use std::collections::BTreeSet;
use std::os::unix::fs::symlink;
use std::time::Instant;

use tokio::sync::mpsc;
use vpc_agent::CloudUse;
use vpc_ipam::{Unit, WarmTarget};

use super::*;
use crate::door::{Event, door};
use crate::settings::sections::{IN_PLACE, all};
use crate::settings::{Origin, Verdict, check};

fn env(pairs: &[(&str, &str)]) -> Env {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

fn machine() -> Machine {
    Machine::new("i-0123456789abcdef0".parse().unwrap(), "m5.large", 7)
}

/// A daemon that was started with this environment and without a file.
fn started(pairs: &[(&str, &str)]) -> Living {
    let env = env(pairs);
    let checked = check(&env);
    assert!(checked.may_start(), "{:?}", checked.findings);
    Living::new(env, machine(), checked)
}

fn take(living: &mut Living, text: &str) -> Turn {
    living.take(Ok(Some(file::parse(text.as_bytes()))), Path::new("/settings"))
}

fn names(rows: &[(Row, Row)]) -> Vec<&'static str> {
    rows.iter().map(|(_, now)| now.name).collect()
}

#[test]
fn what_changes_in_place_reaches_the_agent_and_the_rest_waits_for_a_restart() {
    let mut living = started(&[("WARM_IP_TARGET", "2"), ("AWS_VPC_ENI_MTU", "9001")]);
    let turn = take(&mut living, "WARM_IP_TARGET=5\nAWS_VPC_ENI_MTU=1500\nENABLE_PREFIX_DELEGATION=true\n");
    let config = turn.config.unwrap();
    assert_eq!(config.target.warm, WarmTarget::Addresses { warm: 5, minimum: 0 });
    assert_eq!((config.target.unit, config.host.eni_mtu), (Unit::Prefix, 9001));
    assert_eq!(names(&turn.changed), ["WARM_IP_TARGET", "ENABLE_PREFIX_DELEGATION"]);
    assert_eq!(turn.changed[0].1.origin, Origin::File);
    // The MTU of pods follows that of the ENIs.
    assert_eq!(names(&turn.awaited), ["AWS_VPC_ENI_MTU", "POD_MTU"]);

    let again = take(&mut living, "WARM_IP_TARGET=5\nAWS_VPC_ENI_MTU=1500\nENABLE_PREFIX_DELEGATION=true\n");
    assert!(again.config.is_none() && again.awaited.is_empty() && again.findings.is_empty(), "{again:?}");

    let gone = living.take(Ok(None), Path::new("/settings"));
    let config = gone.config.unwrap();
    assert_eq!(
        (config.target.warm, config.target.unit),
        (WarmTarget::Addresses { warm: 2, minimum: 0 }, Unit::Address)
    );
    assert!(gone.findings.iter().any(|f| f.verdict == Verdict::Note && f.to_string().contains("environment alone")));
}

#[test]
fn a_file_the_daemon_would_not_start_with_is_said_once_and_what_held_goes_on() {
    let mut living = started(&[("WARM_IP_TARGET", "2")]);
    for text in ["IP_COOLDOWN_PERIOD=never\nWARM_IP_TARGET=9\n", "VPC_CNI_EC2=maybe\nWARM_IP_TARGET=9\n"] {
        let turn = take(&mut living, text);
        assert!(turn.config.is_none() && turn.changed.is_empty() && turn.ignored.is_some(), "{turn:?}");
        assert!(turn.findings.iter().any(Finding::is_fatal), "{turn:?}");
        let again = take(&mut living, text);
        assert!(again.ignored.is_none() && again.findings.is_empty(), "{again:?}");
    }
    let unreadable = FileError::TooLarge { path: "/settings".to_owned() };
    let turn = living.take(Err(unreadable), Path::new("/settings"));
    assert!(turn.config.is_none() && turn.ignored.unwrap().contains("256 KiB"));
    // And the good one after it is taken.
    let config = take(&mut living, "WARM_IP_TARGET=3\n").config.unwrap();
    assert_eq!(config.target.warm, WarmTarget::Addresses { warm: 3, minimum: 0 });
}

#[test]
fn a_bad_line_is_said_with_its_number_and_the_others_hold() {
    let mut living = started(&[("WARM_ENI_TARGET", "3")]);
    let text = "# comment\n\nWARM_IP_TARGET\n WARM_IPTARGET=4\nVPC_CNI_CONFIG_FILE=/x\nENABLE_NFTABLES=true\n=5\nMINIMUM_IP_TARGET = 6 \r\nMINIMUM_IP_TARGET=7\nMAX_ENI=none\n";
    let turn = take(&mut living, text);
    let said: Vec<_> = turn.findings.iter().map(ToString::to_string).collect();
    for (line, words) in [
        (3, "expected `NAME=value`"),
        (4, "the nearest is `WARM_IP_TARGET`"),
        (5, "it is set in the environment only"),
        (6, "nothing in this release looks at it"),
        (7, "there is no such setting"),
        (9, "it is set in line 8 too; this line holds"),
    ] {
        let about = format!("VPC_CNI_CONFIG_FILE line {line}=");
        assert!(said.iter().any(|s| s.starts_with(&about) && s.contains(words)), "{line}: {said:#?}");
    }
    assert!(said.iter().any(|s| s.starts_with("MAX_ENI=`none`: expected an integer")), "{said:#?}");
    assert!(said.iter().any(|s| s.contains("MINIMUM_IP_TARGET wins")), "contradictions too: {said:#?}");
    assert_eq!(turn.config.unwrap().target.warm, WarmTarget::Addresses { warm: 0, minimum: 7 });
    assert!(file::parse(b"MAX_ENI=2\n\xff=\xfe\n").findings[0].to_string().contains("line 2"));
}

/// A value for each setting that is not its default.
fn another(name: &str) -> &'static str {
    match name {
        "ADDITIONAL_ENI_TAGS" => r#"{"a":"b"}"#,
        "VPC_CNI_EC2" => "no-release",
        "ENI_CONFIG_ANNOTATION_DEF" | "ENI_CONFIG_LABEL_DEF" => "a/b",
        "AWS_VPC_K8S_CNI_EXCLUDE_SNAT_CIDRS" | "AWS_EXTERNAL_SERVICE_CIDRS" => "192.0.2.0/24",
        "ENABLE_SUBNET_DISCOVERY" | "MANAGE_UNTAGGED_ENI" | "VPC_CNI_LOOKAHEAD" | "AWS_VPC_CNI_NODE_PORT_SUPPORT" => {
            "false"
        }
        "MAX_ENI" | "WARM_ENI_TARGET" | "WARM_IP_TARGET" | "MINIMUM_IP_TARGET" | "WARM_PREFIX_TARGET" => "2",
        "IP_COOLDOWN_PERIOD" | "VPC_CNI_ADD_WAIT" => "3",
        "VPC_CNI_RELEASE_INTERVAL"
        | "VPC_CNI_MIN_ENI_AGE"
        | "VPC_CNI_AUDIT_INTERVAL"
        | "VPC_CNI_ORPHAN_AGE"
        | "VPC_CNI_STRAYS_AFTER" => "7",
        "AWS_VPC_ENI_MTU" | "POD_MTU" => "1500",
        "AWS_VPC_K8S_CNI_CONNMARK" => "0x100",
        "AWS_VPC_K8S_CNI_RANDOMIZESNAT" => "none",
        "AWS_VPC_K8S_CNI_VETHPREFIX" | "CLUSTER_NAME" | "MY_NODE_NAME" | "MY_POD_NAME" | "CLUSTER_ENDPOINT" => "x",
        "AWS_VPC_K8S_CNI_LOGLEVEL" | "AWS_VPC_K8S_PLUGIN_LOG_LEVEL" => "info",
        "POD_SECURITY_GROUP_ENFORCING_MODE" | "NETWORK_POLICY_ENFORCING_MODE" => "standard",
        "VPC_CNI_CONF_VERSION" => "1.1.0",
        "HTTP_TIMEOUT" => "20",
        "AWS_EC2_ENDPOINT" => "http://127.0.0.1:1",
        _ => "true",
    }
}

/// A setting is in the list of those that change in place if and only if the agent hears of its change.
#[test]
fn every_setting_that_is_said_to_change_in_place_does() {
    // Where it takes another setting for this one to matter.
    let base = |name: &str| match name {
        "ENI_CONFIG_ANNOTATION_DEF" | "ENI_CONFIG_LABEL_DEF" => "AWS_VPC_K8S_CNI_CUSTOM_NETWORK_CFG=true\n",
        "WARM_PREFIX_TARGET" | "ENABLE_PREFIX_DELEGATION" => "ENABLE_PREFIX_DELEGATION=true\nWARM_PREFIX_TARGET=1\n",
        _ => "\n",
    };
    let mut changed = BTreeSet::new();
    for var in IN_PLACE {
        let mut living = started(&[]);
        if var.name != "ENABLE_PREFIX_DELEGATION" {
            take(&mut living, base(var.name));
        }
        let before = config(&living.holds.settings, &machine()).0;
        let turn = take(&mut living, &format!("{}{}={}\n", base(var.name), var.name, another(var.name)));
        let now = turn.config.unwrap_or_else(|| panic!("{}", var.name));
        assert_ne!(before, *now, "{}", var.name);
        changed.insert(var.name);
    }
    for var in all().filter(|var| !changed.contains(var.name) && var.name != "VPC_CNI_CONFIG_FILE") {
        let mut living = started(&[]);
        let turn = take(&mut living, &format!("{}={}\n", var.name, another(var.name)));
        assert!(turn.config.is_none(), "{}: {:?}", var.name, turn.changed);
        // The features and families that are not there, and the words of which there is one.
        let one_word = ["ENABLE_IPv4", "VPC_CNI_HOST_LAYOUT", "VPC_CNI_PACKET_FILTER"].contains(&var.name);
        let waits = names(&turn.awaited).contains(&var.name);
        assert!(waits || one_word || turn.ignored.is_some(), "{}: {turn:?}", var.name);
    }
}

/// A real file in a folder that is watched, and the agent's inbox.
struct Watched {
    folder: tempfile::TempDir,
    inbox: mpsc::Receiver<Event>,
}

const LONG: Duration = Duration::from_secs(20);

impl Watched {
    fn new(prepare: impl FnOnce(&Path)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        prepare(folder.path());
        let path = folder.path().join("settings");
        let env = env(&[("VPC_CNI_CONFIG_FILE", path.to_str().unwrap()), ("WARM_IP_TARGET", "1")]);
        let checked = check_with(&env, &file::of(&env).unwrap());
        let (door, inbox) = door();
        watch(Living::new(env, machine(), checked), door).unwrap();
        Self { folder, inbox }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The warm target the agent is told next.
    fn told(&mut self) -> u32 {
        match self.next().target.warm {
            WarmTarget::Addresses { warm, .. } => warm,
            other => panic!("{other:?}"),
        }
    }

    fn next(&mut self) -> Config {
        let until = Instant::now() + LONG;
        loop {
            match self.inbox.try_recv() {
                Ok(Event::Told(Input::Settings(config))) => return *config,
                Ok(other) => panic!("{other:?}"),
                Err(_) if Instant::now() < until => thread::sleep(Duration::from_millis(10)),
                Err(error) => panic!("nothing was told: {error}"),
            }
        }
    }
}

#[test]
fn a_file_that_is_written_renamed_into_place_and_removed_is_followed() {
    let mut watched = Watched::new(|_| ());
    std::fs::write(watched.path("settings"), "WARM_IP_TARGET=2\n").unwrap();
    assert_eq!(watched.told(), 2);
    std::fs::write(watched.path("new"), "WARM_IP_TARGET=3\nVPC_CNI_EC2=off\n").unwrap();
    std::fs::rename(watched.path("new"), watched.path("settings")).unwrap();
    let config = watched.next();
    assert_eq!((config.target.warm, config.cloud), (WarmTarget::Addresses { warm: 3, minimum: 0 }, CloudUse::Off));
    // Worse than what holds: ignored. The next good one is what is heard of next.
    std::fs::write(watched.path("settings"), "WARM_IP_TARGET=4\nIP_COOLDOWN_PERIOD=-1\n").unwrap();
    thread::sleep(SETTLE * 4);
    std::fs::write(watched.path("settings"), "WARM_IP_TARGET=5\n").unwrap();
    assert_eq!(watched.told(), 5);
    std::fs::remove_file(watched.path("settings")).unwrap();
    assert_eq!(watched.told(), 1, "the environment alone");
}

#[test]
fn a_config_map_that_is_swapped_is_followed() {
    let version = |folder: &Path, name: &str, text: &str| {
        std::fs::create_dir(folder.join(name)).unwrap();
        std::fs::write(folder.join(name).join("settings"), text).unwrap();
        let _ = std::fs::remove_file(folder.join("..data_tmp"));
        symlink(name, folder.join("..data_tmp")).unwrap();
        std::fs::rename(folder.join("..data_tmp"), folder.join("..data")).unwrap();
    };
    let mut watched = Watched::new(|folder| {
        version(folder, "..1", "WARM_IP_TARGET=2\n");
        symlink("..data/settings", folder.join("settings")).unwrap();
    });
    version(watched.folder.path(), "..2", "WARM_IP_TARGET=3\n");
    assert_eq!(watched.told(), 3, "the first version held at the start");
    version(watched.folder.path(), "..3", "WARM_IP_TARGET=4\n");
    assert_eq!(watched.told(), 4);
}

#[test]
fn a_folder_that_goes_and_comes_back_is_watched_again() {
    let mut watched = Watched::new(|folder| {
        std::fs::remove_dir(folder).unwrap();
    });
    std::fs::create_dir(watched.folder.path()).unwrap();
    std::fs::write(watched.path("settings"), "WARM_IP_TARGET=2\n").unwrap();
    assert_eq!(watched.told(), 2, "found by looking");
    std::fs::remove_dir_all(watched.folder.path()).unwrap();
    assert_eq!(watched.told(), 1);
    std::fs::create_dir(watched.folder.path()).unwrap();
    std::fs::write(watched.path("settings"), "WARM_IP_TARGET=3\n").unwrap();
    assert_eq!(watched.told(), 3);
}
