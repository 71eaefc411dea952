//! Label and field selectors: which objects a list or a watch is about.

use serde_json::Value;

use crate::error::KubeError;
use crate::object;
use crate::resource::Resource;

/// Which objects of a resource are meant. The default: all of all namespaces.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selection {
    /// Of one namespace; empty: of all.
    pub namespace: String,
    labels: Vec<LabelRule>,
    fields: Vec<FieldRule>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum LabelRule {
    In(String, Vec<String>),
    NotIn(String, Vec<String>),
    Exists(String),
    Missing(String),
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct FieldRule {
    /// The same field as a JSON pointer into the stored object.
    pointer: String,
    equal: bool,
    value: String,
}

impl Selection {
    /// Of one namespace.
    pub fn namespace(namespace: impl Into<String>) -> Self {
        Self { namespace: namespace.into(), ..Self::default() }
    }

    /// With these labels too: `a=b,c!=d,e in (f,g),h notin (i),j,!k`.
    ///
    /// # Errors
    /// What is not a label selector.
    pub fn labels(mut self, selector: &str) -> Result<Self, KubeError> {
        for part in split_outside_brackets(selector) {
            self.labels.push(label_rule(part.trim())?);
        }
        Ok(self)
    }

    /// With these fields too: `spec.nodeName=a,status.phase!=Failed`.
    ///
    /// # Errors
    /// What is not a field selector, or a field that the resource cannot be selected by.
    pub fn fields(mut self, resource: &Resource, selector: &str) -> Result<Self, KubeError> {
        for part in selector.split(',').filter(|part| !part.is_empty()) {
            self.fields.push(field_rule(resource, part)?);
        }
        Ok(self)
    }

    /// Whether any selector narrows it.
    pub(crate) fn is_narrowed(&self) -> bool {
        !self.labels.is_empty() || !self.fields.is_empty()
    }

    pub(crate) fn matches(&self, stored: &Value) -> bool {
        (self.namespace.is_empty() || self.namespace == object::namespace(stored))
            && self.labels.iter().all(|rule| rule.matches(stored))
            && self.fields.iter().all(|rule| rule.matches(stored))
    }
}

impl LabelRule {
    fn matches(&self, stored: &Value) -> bool {
        let labels = stored.pointer("/metadata/labels");
        let label = |key: &str| labels.and_then(|labels| labels.get(key)).and_then(Value::as_str);
        let is_one = |key: &str, values: &[String]| label(key).is_some_and(|has| values.iter().any(|v| v == has));
        match self {
            Self::In(key, values) => is_one(key, values),
            Self::NotIn(key, values) => !is_one(key, values),
            Self::Exists(key) => label(key).is_some(),
            Self::Missing(key) => label(key).is_none(),
        }
    }
}

impl FieldRule {
    fn matches(&self, stored: &Value) -> bool {
        let has = match stored.pointer(&self.pointer) {
            Some(Value::String(text)) => text.clone(),
            Some(Value::Bool(yes)) => yes.to_string(),
            Some(Value::Number(number)) => number.to_string(),
            // As in Kubernetes, flags that are not set are false.
            None if self.pointer.ends_with("/unschedulable") || self.pointer.ends_with("/hostNetwork") => {
                "false".to_owned()
            }
            None | Some(Value::Null | Value::Array(_) | Value::Object(_)) => String::new(),
        };
        (has == self.value) == self.equal
    }
}

/// Parts between commas, but for those of `in (a,b)`.
fn split_outside_brackets(selector: &str) -> impl Iterator<Item = &str> {
    let mut depth = 0;
    let parts = selector.split(move |character| {
        match character {
            '(' => depth += 1,
            ')' => depth -= 1,
            _ => {}
        }
        character == ',' && depth == 0
    });
    parts.filter(|part| !part.trim().is_empty())
}

fn label_rule(part: &str) -> Result<LabelRule, KubeError> {
    let bad = || KubeError::BadRequest(format!("unable to parse requirement: `{part}` is not a label selector"));
    let key = |text: &str| {
        let key = text.trim();
        let good = !key.is_empty() && key.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_./".contains(&b));
        if good { Ok(key.to_owned()) } else { Err(bad()) }
    };
    if let Some((name, list)) = part.strip_suffix(')').and_then(|part| part.split_once('(')) {
        let values = list.split(',').map(|value| value.trim().to_owned()).collect();
        return match name.trim().rsplit_once(char::is_whitespace) {
            Some((name, "in")) => Ok(LabelRule::In(key(name)?, values)),
            Some((name, "notin")) => Ok(LabelRule::NotIn(key(name)?, values)),
            Some(_) | None => Err(bad()),
        };
    }
    if let Some((name, value)) = part.split_once("!=") {
        return Ok(LabelRule::NotIn(key(name)?, vec![value.trim().to_owned()]));
    }
    if let Some((name, value)) = part.split_once("==").or_else(|| part.split_once('=')) {
        return Ok(LabelRule::In(key(name)?, vec![value.trim().to_owned()]));
    }
    match part.strip_prefix('!') {
        Some(name) => Ok(LabelRule::Missing(key(name)?)),
        None => Ok(LabelRule::Exists(key(part)?)),
    }
}

fn field_rule(resource: &Resource, part: &str) -> Result<FieldRule, KubeError> {
    let split = part.split_once("!=").map(|(field, value)| (field, false, value));
    let split = split.or_else(|| part.split_once("==").map(|(field, value)| (field, true, value)));
    let split = split.or_else(|| part.split_once('=').map(|(field, value)| (field, true, value)));
    let (field, equal, value) = split.ok_or_else(|| {
        KubeError::BadRequest(format!("invalid field selector `{part}`: it must be `field=value` or `field!=value`"))
    })?;
    let stored = stored_field(resource, field.trim())
        .ok_or_else(|| KubeError::BadRequest(format!("field label not supported: {field}")))?;
    Ok(FieldRule { pointer: format!("/{}", stored.replace('.', "/")), equal, value: value.trim().to_owned() })
}

/// The field of the stored object; `None` if the resource cannot be selected by it.
fn stored_field<'a>(resource: &Resource, field: &'a str) -> Option<&'a str> {
    const PODS: &[&str] = &[
        "spec.nodeName",
        "spec.restartPolicy",
        "spec.schedulerName",
        "spec.serviceAccountName",
        "spec.hostNetwork",
        "status.phase",
        "status.podIP",
        "status.nominatedNodeName",
    ];
    const EVENTS: &[&str] = &[
        "involvedObject.kind",
        "involvedObject.namespace",
        "involvedObject.name",
        "involvedObject.uid",
        "involvedObject.apiVersion",
        "involvedObject.resourceVersion",
        "involvedObject.fieldPath",
        "reason",
        "reportingComponent",
        "type",
    ];
    if field == "metadata.name" || field == "metadata.namespace" {
        return Some(field);
    }
    let known: &[&str] = match (resource.group(), resource.plural()) {
        ("", "pods") => PODS,
        ("", "nodes") => &["spec.unschedulable"],
        ("", "namespaces") => &["status.phase"],
        ("", "secrets") => &["type"],
        ("", "services") => &["spec.clusterIP", "spec.type"],
        ("", "events") => match field {
            "source" => return Some("source.component"),
            _ => EVENTS,
        },
        ("events.k8s.io", "events") => match field {
            "reportingController" => return Some("reportingComponent"),
            "regarding.kind" => return Some("involvedObject.kind"),
            "regarding.namespace" => return Some("involvedObject.namespace"),
            "regarding.name" => return Some("involvedObject.name"),
            "regarding.uid" => return Some("involvedObject.uid"),
            "regarding.apiVersion" => return Some("involvedObject.apiVersion"),
            "regarding.resourceVersion" => return Some("involvedObject.resourceVersion"),
            "regarding.fieldPath" => return Some("involvedObject.fieldPath"),
            _ => &["reason", "type"],
        },
        _ => &[],
    };
    known.contains(&field).then_some(field)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn label_selectors_select_and_exclude() {
        let pod = json!({"metadata": {"labels": {"app": "web", "tier": "front"}}});
        let matches = |selector: &str| Selection::default().labels(selector).unwrap().matches(&pod);
        for yes in ["app=web", "app==web", "app", "!db", "app in (web, api)", "tier notin (back),app", "db!=x", ""] {
            assert!(matches(yes), "{yes}");
        }
        for no in ["app=api", "!app", "db", "app in (api)", "app notin (web)", "app=web,tier=back", "app!=web"] {
            assert!(!matches(no), "{no}");
        }
        for bad in ["a b", "app of (x)", "=x", "a(b)"] {
            assert!(Selection::default().labels(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn field_selectors_are_those_of_the_resource() {
        let pod = json!({"metadata": {"name": "a"}, "spec": {"nodeName": "n1"}, "status": {"phase": "Running"}});
        let matches = |selector: &str| Selection::default().fields(&Resource::PODS, selector).unwrap().matches(&pod);
        assert!(matches("spec.nodeName=n1,status.phase!=Failed,metadata.name==a"));
        assert!(!matches("spec.nodeName=n2"));
        assert!(!matches("spec.nodeName="));
        let refused = Selection::default().fields(&Resource::NODES, "spec.nodeName=n1");
        assert_eq!(refused, Err(KubeError::BadRequest("field label not supported: spec.nodeName".into())));
        let event = json!({"involvedObject": {"name": "p"}, "reportingComponent": "aws-node"});
        let new = Selection::default().fields(&Resource::NEW_EVENTS, "regarding.name=p,reportingController=aws-node");
        assert!(new.unwrap().matches(&event));
    }
}
