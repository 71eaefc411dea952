//! The network configuration as a container runtime reads it, and what it gives each plugin on stdin.
//!
//! The runtime takes the first file of `/etc/cni/net.d` by name. For each plugin it puts the list's name and version into the
//! plugin's own object, replaces `capabilities` by the values it has for them (`runtimeConfig`), and adds the result so far
//! (`prevResult`): of the plugin before on ADD, the cached last one on DEL (from version 0.4.0 on).

use std::path::Path;

use serde_json::{Map, Value, json};

/// What a configuration file may end in.
const ENDINGS: [&str; 3] = ["conf", "conflist", "json"];
/// The version that a list without one has.
const OLDEST: &str = "0.1.0";

/// A list of plugins.
#[derive(Clone, Debug, PartialEq)]
pub struct NetworkList {
    /// Name of the network.
    pub name: String,
    /// CNI version all its plugins are spoken to in.
    pub version: String,
    /// Plugins in the order of ADD.
    pub plugins: Vec<Plugin>,
}

/// One plugin of a list.
#[derive(Clone, Debug, PartialEq)]
pub struct Plugin {
    /// Name of its binary (`type`).
    pub binary: String,
    config: Map<String, Value>,
}

/// A configuration that no runtime would take.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// There is none: the node's network is not ready.
    #[error(
        "no network configuration in /etc/cni/net.d of {node}: its daemon has written none yet; look at it with `vpc-lab status` and `vpc-lab exec {node} -- cat /var/log/lab/daemon.log`"
    )]
    None {
        /// The node.
        node: String,
    },
    /// The file can not be used.
    #[error("network configuration {file}: {problem}")]
    Bad {
        /// Its path in the node.
        file: String,
        /// What is wrong with it.
        problem: String,
    },
}

/// The file a runtime would take: the first by name. To be called where `/etc/cni/net.d` is the node's.
#[must_use]
pub fn first_config(dir: &Path) -> Option<(String, String)> {
    let entries = std::fs::read_dir(dir).ok()?.flatten().map(|entry| entry.path());
    let known =
        |path: &std::path::PathBuf| path.extension().is_some_and(|end| ENDINGS.iter().any(|known| end == *known));
    let first = entries.filter(known).min()?;
    let text = std::fs::read_to_string(&first).ok()?;
    Some((first.display().to_string(), text))
}

impl NetworkList {
    /// Reads a list (`plugins`) or a single plugin's configuration.
    ///
    /// # Errors
    /// [`ConfigError::Bad`].
    pub fn parse(file: &str, text: &str) -> Result<Self, ConfigError> {
        let bad = |problem: &str| ConfigError::Bad { file: file.to_owned(), problem: problem.to_owned() };
        let Ok(Value::Object(top)) = serde_json::from_str(text) else { return Err(bad("it is not a JSON object")) };
        let text_of =
            |object: &Map<String, Value>, key: &str| object.get(key).and_then(Value::as_str).map(str::to_owned);
        let plugins = match top.get("plugins") {
            Some(Value::Array(list)) => list.iter().map(|p| p.as_object().cloned()).collect::<Option<Vec<_>>>(),
            Some(_) => None,
            None => Some(vec![top.clone()]),
        };
        let plugins =
            plugins.filter(|list| !list.is_empty()).ok_or_else(|| bad("`plugins` is not a list of objects"))?;
        let plugin = |config: Map<String, Value>| match text_of(&config, "type") {
            Some(binary) if !binary.is_empty() && !binary.contains('/') => Ok(Plugin { binary, config }),
            _ => Err(bad("a plugin has no `type`")),
        };
        Ok(Self {
            name: text_of(&top, "name").filter(|n| !n.is_empty()).ok_or_else(|| bad("it has no `name`"))?,
            version: text_of(&top, "cniVersion").unwrap_or_else(|| OLDEST.to_owned()),
            plugins: plugins.into_iter().map(plugin).collect::<Result<_, _>>()?,
        })
    }

    /// What a plugin reads from stdin. `capabilities` are all values the runtime could give; a plugin gets those it declares.
    #[must_use]
    pub fn stdin(&self, plugin: &Plugin, capabilities: &Map<String, Value>, previous: Option<&Value>) -> String {
        let mut config = plugin.config.clone();
        let declared = config.remove("capabilities");
        let wanted =
            declared.as_ref().and_then(Value::as_object).into_iter().flatten().filter(|(_, on)| **on == json!(true));
        let given: Map<_, _> =
            wanted.filter_map(|(name, _)| capabilities.get(name).map(|value| (name.clone(), value.clone()))).collect();
        if !given.is_empty() {
            config.insert("runtimeConfig".to_owned(), Value::Object(given));
        }
        config.insert("name".to_owned(), json!(self.name));
        config.insert("cniVersion".to_owned(), json!(self.version));
        if let Some(previous) = previous {
            config.insert("prevResult".to_owned(), previous.clone());
        }
        Value::Object(config).to_string()
    }

    /// Whether a DEL of this version carries the cached result.
    #[must_use]
    pub fn del_has_result(&self) -> bool {
        !["0.1.0", "0.2.0", "0.3.0", "0.3.1"].contains(&self.version.as_str())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const LIST: &str = r#"{"cniVersion":"0.4.0","name":"aws-cni","disableCheck":true,"plugins":[
        {"name":"aws-cni","type":"aws-cni","mtu":"9001","capabilities":{"io.kubernetes.cri.pod-annotations":true,"dns":false}},
        {"type":"portmap","capabilities":{"portMappings":true},"snat":true}]}"#;

    #[test]
    fn a_plugin_gets_the_list_s_name_and_what_it_declared() {
        let list = NetworkList::parse("x", LIST).unwrap();
        let capabilities = json!({"io.kubernetes.cri.pod-annotations": {"a": "b"}, "portMappings": [], "dns": {}});
        let result = json!({"ips": []});
        let texts: Vec<Value> = list
            .plugins
            .iter()
            .map(|p| serde_json::from_str(&list.stdin(p, capabilities.as_object().unwrap(), Some(&result))).unwrap())
            .collect();
        let want = [
            json!({"name":"aws-cni","cniVersion":"0.4.0","type":"aws-cni","mtu":"9001","prevResult":{"ips":[]},
                   "runtimeConfig":{"io.kubernetes.cri.pod-annotations":{"a":"b"}}}),
            json!({"name":"aws-cni","cniVersion":"0.4.0","type":"portmap","snat":true,"prevResult":{"ips":[]},
                   "runtimeConfig":{"portMappings":[]}}),
        ];
        assert_eq!(texts, want);
        assert!(list.del_has_result());
    }

    #[test]
    fn a_configuration_without_name_type_or_sense_is_refused() {
        for bad in [
            "",
            "[]",
            r#"{"plugins":[]}"#,
            r#"{"name":"a","plugins":[{}]}"#,
            r#"{"plugins":[{"type":"x"}]}"#,
            r#"{"name":"a","type":"../x"}"#,
        ] {
            assert!(NetworkList::parse("x", bad).is_err(), "{bad}");
        }
        let single = NetworkList::parse("x", r#"{"name":"a","type":"x"}"#).unwrap();
        assert_eq!((single.version.as_str(), single.plugins.len(), single.del_has_result()), ("0.1.0", 1, false));
    }
}
