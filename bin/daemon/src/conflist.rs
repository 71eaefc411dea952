//! The file that tells the container runtime to call our plugin: `10-aws.conflist`.
//!
//! ```text
//!   settings --document()--> JSON values --drop what is not installed--> write(): temporary file, rename --> runtime
//! ```
//!
//! The runtime counts the node's network as ready from the moment the file is there, so it is written only when the daemon can
//! serve pods. It is never removed.

use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::net::Ipv6Addr;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use vpc_wire::cni::Version;

use crate::failpoint::Point;
use crate::settings::ConflistSettings;

/// Its name; the runtime takes the first of its directory, so the number is part of the contract.
pub const FILE_NAME: &str = "10-aws.conflist";

/// The plugin without which the list is of no use.
pub const OUR_PLUGIN: &str = "aws-cni";

/// Why the file is not there.
#[derive(Debug, thiserror::Error)]
#[error("can not {step} {}: {source}", .path.display())]
pub struct WriteError {
    step: &'static str,
    path: PathBuf,
    source: io::Error,
}

/// The document, with every plugin the settings ask for. `node_ipv6` is the node's own IPv6 address; without one IPv6 egress
/// stays off.
#[must_use]
pub fn document(settings: &ConflistSettings, node_ipv6: Option<Ipv6Addr>) -> Value {
    // The reference's plugins take numbers and switches as texts.
    let mtu = settings.mtu.to_string();
    let egress_on = settings.v6_egress && node_ipv6.is_some();
    let node_ip = node_ipv6.filter(|_| egress_on).map_or(String::new(), |address| address.to_string());
    let mut plugins = vec![
        json!({
            "name": OUR_PLUGIN,
            "type": OUR_PLUGIN,
            "vethPrefix": settings.veth_prefix.as_str(),
            "mtu": mtu,
            "podSGEnforcingMode": settings.enforcing_mode,
            "pluginLogFile": settings.plugin_log_file,
            "pluginLogLevel": settings.plugin_log_level,
            "capabilities": { "io.kubernetes.cri.pod-annotations": true },
        }),
        json!({
            "name": "egress-cni",
            "type": "egress-cni",
            "mtu": mtu,
            "enabled": egress_on.to_string(),
            "randomizeSNAT": settings.randomize_snat,
            "nodeIP": node_ip,
            "ipam": {
                "type": "host-local",
                "ranges": [[{ "subnet": "fd00::ac:00/118" }]],
                "routes": [{ "dst": "::/0" }],
                "dataDir": "/run/cni/v4pd/egress-v6-ipam",
            },
            "pluginLogFile": settings.egress_log_file,
            "pluginLogLevel": settings.plugin_log_level,
        }),
        json!({ "type": "portmap", "capabilities": { "portMappings": true }, "snat": true }),
    ];
    if settings.bandwidth {
        plugins.push(json!({ "type": "bandwidth", "capabilities": { "bandwidth": true } }));
    }
    if settings.disable_pod_v6 {
        plugins.push(json!({
            "type": "tuning",
            "sysctl": {
                "net.ipv6.conf.all.disable_ipv6": "1",
                "net.ipv6.conf.default.disable_ipv6": "1",
                "net.ipv6.conf.lo.disable_ipv6": "1",
            },
        }));
    }
    // Before CNI 1.1.0 the list is the reference's, which keeps runtimes from calling CHECK.
    let mut list = json!({ "cniVersion": settings.version.as_str(), "name": "aws-cni", "plugins": plugins });
    if settings.version < Version::V1_1_0 {
        list["disableCheck"] = true.into();
    }
    list
}

/// Takes out the plugins that `installed` does not know, since one missing binary would fail every pod; says which.
/// Our own stays in any case: without it the list would give pods no network and no error.
pub fn leave_out_missing(document: &mut Value, installed: impl Fn(&str) -> bool) -> Vec<String> {
    let mut missing = Vec::new();
    if let Some(plugins) = document.get_mut("plugins").and_then(Value::as_array_mut) {
        plugins.retain(|plugin| {
            let name = plugin.get("type").and_then(Value::as_str).unwrap_or_default();
            let there = installed(name);
            if !there {
                missing.push(name.to_owned());
            }
            there || name == OUR_PLUGIN
        });
    }
    missing
}

/// Whether a plugin's binary is in the directory: a file somebody may execute.
#[must_use]
pub fn is_installed(bin_dir: &Path, plugin: &str) -> bool {
    let executable = |meta: fs::Metadata| meta.is_file() && meta.permissions().mode() & 0o111 != 0;
    fs::metadata(bin_dir.join(plugin)).is_ok_and(executable)
}

/// Replaces the file as a whole (mode 0644) and says where it is. A reader sees the old one or the new one, never a part.
///
/// # Errors
/// A step that failed, with its path; no temporary file is left.
pub fn write(conf_dir: &Path, document: &Value) -> Result<PathBuf, WriteError> {
    let path = conf_dir.join(FILE_NAME);
    let temporary = conf_dir.join(format!("{FILE_NAME}.tmp"));
    let failed = |step, path: &Path| {
        let path = path.to_owned();
        move |source| WriteError { step, path, source }
    };
    fs::create_dir_all(conf_dir).map_err(failed("make the folder", conf_dir))?;
    let written =
        Point::ConflistBeforeWrite.reach().and_then(|()| write_new(&temporary, format!("{document:#}\n").as_bytes()));
    let placed = written.map_err(failed("write", &temporary)).and_then(|()| {
        let placed = Point::ConflistBeforeRename.reach().and_then(|()| fs::rename(&temporary, &path));
        placed.map_err(failed("put in place", &path))
    });
    if placed.is_err() {
        // It may not exist; the error at hand is the one that matters.
        let _ = fs::remove_file(&temporary);
    }
    Point::ConflistDone.pass();
    placed.map(|()| path)
}

fn write_new(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o644).open(path)?;
    // The umask of whoever started us does not decide who may read it.
    file.set_permissions(fs::Permissions::from_mode(0o644))?;
    file.write_all(bytes)?;
    file.sync_all()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;
    use crate::settings::{Env, check};

    fn settings(pairs: &[(&str, &str)]) -> ConflistSettings {
        let env: Env = pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        check(&env).settings.conflist
    }

    fn types(document: &Value) -> Vec<&str> {
        document["plugins"].as_array().unwrap().iter().map(|plugin| plugin["type"].as_str().unwrap()).collect()
    }

    #[test]
    fn a_default_ipv4_node_gets_the_reference_s_list() {
        let chart = settings(&[("AWS_VPC_K8S_PLUGIN_LOG_LEVEL", "DEBUG")]);
        let want = json!({"cniVersion":"0.4.0","name":"aws-cni","disableCheck":true,"plugins":[
            {"name":"aws-cni","type":"aws-cni","vethPrefix":"eni","mtu":"9001","podSGEnforcingMode":"strict",
             "pluginLogFile":"/var/log/aws-routed-eni/plugin.log","pluginLogLevel":"DEBUG",
             "capabilities":{"io.kubernetes.cri.pod-annotations":true}},
            {"name":"egress-cni","type":"egress-cni","mtu":"9001","enabled":"false","randomizeSNAT":"prng","nodeIP":"",
             "ipam":{"type":"host-local","ranges":[[{"subnet":"fd00::ac:00/118"}]],"routes":[{"dst":"::/0"}],
                     "dataDir":"/run/cni/v4pd/egress-v6-ipam"},
             "pluginLogFile":"/var/log/aws-routed-eni/egress-v6-plugin.log","pluginLogLevel":"DEBUG"},
            {"type":"portmap","capabilities":{"portMappings":true},"snat":true}]});
        assert_eq!(document(&chart, None), want);
    }

    /// With it a runtime calls every verb. The plugins' own parts are the same.
    #[test]
    fn a_list_of_version_1_1_0_has_check_too_and_no_other_list_does() {
        let new = document(&settings(&[("VPC_CNI_CONF_VERSION", "1.1.0")]), None);
        let keys: Vec<&String> = new.as_object().unwrap().keys().collect();
        assert_eq!(keys, ["cniVersion", "name", "plugins"]);
        assert_eq!((&new["cniVersion"], &new["name"]), (&json!("1.1.0"), &json!("aws-cni")));
        let old = document(&settings(&[]), None);
        assert_eq!(new["plugins"], old["plugins"]);
        for same in ["", "0.4.0"] {
            assert_eq!(document(&settings(&[("VPC_CNI_CONF_VERSION", same)]), None), old);
        }
    }

    #[test]
    fn c6_mtu_is_a_text_and_the_same_for_both() {
        let list = document(&settings(&[("AWS_VPC_ENI_MTU", "1500")]), None);
        assert_eq!(list["plugins"][0]["mtu"], json!("1500"));
        assert_eq!(list["plugins"][1]["mtu"], json!("1500"));
    }

    #[test]
    fn c11_chained_plugins_stand_in_the_reference_s_order() {
        let both = settings(&[("ENABLE_BANDWIDTH_PLUGIN", "true"), ("DISABLE_POD_V6", "true")]);
        let list = document(&both, None);
        assert_eq!(types(&list), ["aws-cni", "egress-cni", "portmap", "bandwidth", "tuning"]);
        assert_eq!(list["plugins"][2]["snat"], json!(true));
    }

    #[test]
    fn c14_egress_stays_off_on_a_node_without_ipv6() {
        let asked = settings(&[("ENABLE_V6_EGRESS", "true")]);
        assert_eq!(document(&asked, None)["plugins"][1]["enabled"], json!("false"));
        let address: Ipv6Addr = "2001:db8::1".parse().unwrap();
        let on = document(&asked, Some(address));
        assert_eq!(
            (&on["plugins"][1]["enabled"], &on["plugins"][1]["nodeIP"]),
            (&json!("true"), &json!("2001:db8::1"))
        );
        let not_asked = document(&settings(&[]), Some(address));
        assert_eq!(not_asked["plugins"][1]["nodeIP"], json!(""));
    }

    #[test]
    fn a_value_is_a_value_and_never_syntax() {
        let strange = settings(&[("AWS_VPC_K8S_PLUGIN_LOG_FILE", r#"/x","mtu":"1","__MTU__\"#)]);
        let list = document(&strange, None);
        assert_eq!(list["plugins"][0]["pluginLogFile"], json!(r#"/x","mtu":"1","__MTU__\"#));
        assert_eq!(list["plugins"][0]["mtu"], json!("9001"));
    }

    #[test]
    fn a_plugin_without_a_binary_is_left_out_and_ours_is_not() {
        let mut list = document(&settings(&[("ENABLE_BANDWIDTH_PLUGIN", "true")]), None);
        let missing = leave_out_missing(&mut list, |name| name == "portmap");
        assert_eq!(missing, ["aws-cni", "egress-cni", "bandwidth"]);
        assert_eq!(types(&list), ["aws-cni", "portmap"]);
    }

    #[test]
    fn the_file_is_replaced_whole_and_readable_by_all() {
        let folder = tempfile::tempdir().unwrap();
        let conf_dir = folder.path().join("etc/cni/net.d");
        let list = document(&settings(&[]), None);
        write(&conf_dir, &json!({})).unwrap();
        let path = write(&conf_dir, &list).unwrap();
        assert_eq!(serde_json::from_slice::<Value>(&fs::read(&path).unwrap()).unwrap(), list);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o644);
        assert_eq!(fs::read_dir(&conf_dir).unwrap().count(), 1, "no temporary file is left");
    }

    #[test]
    fn a_folder_that_can_not_be_written_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("net.d");
        fs::write(&file, "").unwrap();
        let error = write(&file, &json!({})).unwrap_err();
        assert!(error.to_string().contains("net.d"), "{error}");
        assert!(!is_installed(folder.path(), "net.d") && !is_installed(folder.path(), "none"));
    }
}
