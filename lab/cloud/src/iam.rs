//! IAM policy documents, as far as a node's role needs them: who may do what to which resource under which conditions.
//!
//! A [`Policy`] is read from IAM's own JSON; what this model does not know (principals, other operators and keys) is refused
//! by name when it is read, not ignored when it is asked. [`Policy::decide`] follows IAM: an explicit deny beats everything,
//! then an allow, and without either the answer is no. What a call asks for, `authorize` works out.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::describe::matches;

/// What the VPC CNI's node role needs for IPv4, as a policy document.
pub const VPC_CNI_POLICY: &str = include_str!("../data/vpc-cni-policy.json");

/// Versions of the policy language.
const VERSIONS: [&str; 2] = ["2012-10-17", "2008-10-17"];
/// Operators of conditions; each also with `IfExists` behind, or `ForAllValues:` or `ForAnyValue:` before.
const OPERATORS: [&str; 7] = [
    "StringEquals",
    "StringNotEquals",
    "StringEqualsIgnoreCase",
    "StringNotEqualsIgnoreCase",
    "StringLike",
    "StringNotLike",
    "Null",
];
/// Keys of conditions; those that end in a slash are followed by a tag's key.
const KEYS: [&str; 7] = [
    "aws:RequestTag/",
    "aws:ResourceTag/",
    "ec2:ResourceTag/",
    "aws:TagKeys",
    "aws:RequestedRegion",
    "ec2:Region",
    "ec2:CreateAction",
];

/// A policy document that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PolicyError {
    /// It is not JSON.
    #[error("the policy is not JSON: {0}")]
    Json(String),
    /// A field that is missing, unknown or wrong.
    #[error("{at}: {found} is not accepted: expected {expected}")]
    Field {
        /// Which field (`Statement[0].Effect`).
        at: String,
        /// What is there.
        found: String,
        /// What is accepted.
        expected: String,
    },
}

/// A policy document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    statements: Vec<Statement>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Statement {
    allows: bool,
    actions: Patterns,
    resources: Patterns,
    conditions: Vec<Condition>,
}

/// Patterns with `*` and `?`, one of which must fit, or (`NotAction`, `NotResource`) none may.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Patterns {
    not: bool,
    patterns: Vec<String>,
}

impl Patterns {
    fn fit(&self, text: &str) -> bool {
        self.patterns.iter().any(|pattern| matches(pattern, text)) != self.not
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Condition {
    operator: Operator,
    /// In lower case: keys are the same in any case.
    key: String,
    values: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Operator {
    kind: Kind,
    negated: bool,
    if_exists: bool,
    quantifier: Quantifier,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Equals,
    EqualsIgnoreCase,
    Like,
    Null,
}

/// How many of a request's values must fit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Quantifier {
    One,
    All,
    Any,
}

/// What a request is judged by, beside action and resource: keys in lower case.
pub(crate) type Context = BTreeMap<String, Vec<String>>;

/// What a policy says to a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Decision {
    Allowed,
    /// No statement allows it.
    NotAllowed,
    /// A statement denies it.
    Denied,
}

impl Policy {
    /// Reads a policy document.
    ///
    /// # Errors
    /// What is missing, unknown or wrong, with its place in the document.
    pub fn parse(document: &str) -> Result<Self, PolicyError> {
        let value: Value = serde_json::from_str(document).map_err(|error| PolicyError::Json(error.to_string()))?;
        let fields = known_fields(&value, "the policy", &["Version", "Id", "Statement"])?;
        match fields.get("Version") {
            Some(Value::String(version)) if VERSIONS.contains(&version.as_str()) => {}
            other => return Err(wrong("Version", other, &VERSIONS.join(" or "))),
        }
        let statements: Vec<&Value> = match fields.get("Statement") {
            Some(Value::Array(statements)) => statements.iter().collect(),
            Some(one @ Value::Object(_)) => vec![one],
            other => return Err(wrong("Statement", other, "a list of statements")),
        };
        let parsed = statements.into_iter().enumerate().map(|(n, statement)| Statement::parse(n, statement));
        Ok(Self { statements: parsed.collect::<Result<_, _>>()? })
    }

    /// Whether a request may be made: `action` with its service (`ec2:CreateTags`), `resource` an ARN or `*`.
    pub(crate) fn decide(&self, action: &str, resource: &str, context: &Context) -> Decision {
        let action = action.to_ascii_lowercase();
        let mut decision = Decision::NotAllowed;
        for statement in &self.statements {
            let fits = statement.actions.fit(&action)
                && statement.resources.fit(resource)
                && statement.conditions.iter().all(|condition| condition.holds(context));
            match (fits, statement.allows) {
                (true, false) => return Decision::Denied,
                (true, true) => decision = Decision::Allowed,
                (false, _) => {}
            }
        }
        decision
    }
}

impl Statement {
    fn parse(number: usize, value: &Value) -> Result<Self, PolicyError> {
        let at = |field: &str| format!("Statement[{number}].{field}");
        let known = ["Sid", "Effect", "Action", "NotAction", "Resource", "NotResource", "Condition"];
        let fields = known_fields(value, &format!("Statement[{number}]"), &known)?;
        let allows = match fields.get("Effect").and_then(Value::as_str) {
            Some("Allow") => true,
            Some("Deny") => false,
            _ => return Err(wrong(&at("Effect"), fields.get("Effect"), "Allow or Deny")),
        };
        let patterns = |name: &str| {
            let not = format!("Not{name}");
            match (fields.get(name), fields.get(&not)) {
                (Some(own), None) => texts(&at(name), own).map(|patterns| Patterns { not: false, patterns }),
                (None, Some(own)) => texts(&at(&not), own).map(|patterns| Patterns { not: true, patterns }),
                (other, _) => Err(wrong(&at(name), other, &format!("either {name} or {not}"))),
            }
        };
        let mut actions = patterns("Action")?;
        if let Some(odd) = actions.patterns.iter().find(|own| own.as_str() != "*" && !own.contains(':')) {
            return Err(field(&at("Action"), odd, "`*`, or service and action, such as ec2:CreateTags"));
        }
        actions.patterns.iter_mut().for_each(|pattern| pattern.make_ascii_lowercase());
        let resources = patterns("Resource")?;
        if let Some(odd) = resources.patterns.iter().find(|own| own.as_str() != "*" && !own.starts_with("arn:")) {
            return Err(field(&at("Resource"), odd, "`*` or an ARN, such as arn:aws:ec2:*:*:network-interface/*"));
        }
        let conditions = match fields.get("Condition") {
            None => Vec::new(),
            Some(value) => conditions(&at("Condition"), value)?,
        };
        Ok(Self { allows, actions, resources, conditions })
    }
}

fn conditions(at: &str, value: &Value) -> Result<Vec<Condition>, PolicyError> {
    let Value::Object(operators) = value else { return Err(wrong(at, Some(value), "operators with their keys")) };
    let mut conditions = Vec::new();
    for (name, keys) in operators {
        let operator = Operator::parse(name).ok_or_else(|| {
            field(
                at,
                name,
                &format!("one of {}, also with IfExists, ForAllValues: or ForAnyValue:", OPERATORS.join(", ")),
            )
        })?;
        let Value::Object(keys) = keys else {
            return Err(wrong(&format!("{at}.{name}"), Some(keys), "keys with values"));
        };
        for (key, values) in keys {
            if !KEYS.iter().any(|known| is_key(known, key)) {
                return Err(field(&format!("{at}.{name}"), key, &format!("one of {}", KEYS.join(", "))));
            }
            let values = texts(&format!("{at}.{name}.{key}"), values)?;
            conditions.push(Condition { operator: operator.clone(), key: key.to_ascii_lowercase(), values });
        }
    }
    Ok(conditions)
}

/// Whether a key is this one, or begins so if this one ends in a slash.
fn is_key(known: &str, key: &str) -> bool {
    if known.ends_with('/') {
        return key.len() > known.len()
            && key.get(..known.len()).is_some_and(|start| start.eq_ignore_ascii_case(known));
    }
    key.eq_ignore_ascii_case(known)
}

impl Operator {
    fn parse(name: &str) -> Option<Self> {
        let (quantifier, rest) = match (name.strip_prefix("ForAllValues:"), name.strip_prefix("ForAnyValue:")) {
            (Some(rest), _) => (Quantifier::All, rest),
            (_, Some(rest)) => (Quantifier::Any, rest),
            _ => (Quantifier::One, name),
        };
        let (if_exists, rest) = match rest.strip_suffix("IfExists") {
            Some(rest) => (true, rest),
            None => (false, rest),
        };
        let (kind, negated) = match rest {
            "StringEquals" => (Kind::Equals, false),
            "StringNotEquals" => (Kind::Equals, true),
            "StringEqualsIgnoreCase" => (Kind::EqualsIgnoreCase, false),
            "StringNotEqualsIgnoreCase" => (Kind::EqualsIgnoreCase, true),
            "StringLike" => (Kind::Like, false),
            "StringNotLike" => (Kind::Like, true),
            "Null" if !if_exists && quantifier == Quantifier::One => (Kind::Null, false),
            _ => return None,
        };
        Some(Self { kind, negated, if_exists, quantifier })
    }
}

impl Condition {
    fn holds(&self, context: &Context) -> bool {
        let given = context.get(&self.key).filter(|values| !values.is_empty());
        if self.operator.kind == Kind::Null {
            return self.values.iter().any(|wanted| (wanted == "true") == given.is_none());
        }
        let Some(given) = given else {
            // Without a value, "is not" holds, "is" does not, and "all of them are" does.
            return self.operator.if_exists || self.operator.negated || self.operator.quantifier == Quantifier::All;
        };
        let fits = |value: &String| self.values.iter().any(|wanted| self.fits(wanted, value)) != self.operator.negated;
        match self.operator.quantifier {
            Quantifier::All => given.iter().all(fits),
            Quantifier::One | Quantifier::Any => given.iter().any(fits),
        }
    }

    fn fits(&self, wanted: &str, value: &str) -> bool {
        match self.operator.kind {
            Kind::Equals => wanted == value,
            Kind::EqualsIgnoreCase => wanted.eq_ignore_ascii_case(value),
            Kind::Like => matches(wanted, value),
            Kind::Null => false,
        }
    }
}

fn known_fields<'a>(
    value: &'a Value,
    at: &str,
    known: &[&str],
) -> Result<&'a serde_json::Map<String, Value>, PolicyError> {
    let Value::Object(fields) = value else { return Err(wrong(at, Some(value), "an object")) };
    match fields.keys().find(|name| !known.contains(&name.as_str())) {
        Some(stranger) => Err(field(at, stranger, &format!("one of {}", known.join(", ")))),
        None => Ok(fields),
    }
}

/// A text, or a list of at least one.
fn texts(at: &str, value: &Value) -> Result<Vec<String>, PolicyError> {
    let list = match value {
        Value::String(one) => Some(vec![one.clone()]),
        Value::Bool(one) => Some(vec![one.to_string()]),
        Value::Array(many) => many.iter().map(|one| one.as_str().map(str::to_owned)).collect(),
        _ => None,
    };
    list.filter(|list| !list.is_empty()).ok_or_else(|| wrong(at, Some(value), "a text or a list of texts"))
}

fn wrong(at: &str, found: Option<&Value>, expected: &str) -> PolicyError {
    field(at, &found.map_or_else(|| "nothing".to_owned(), ToString::to_string), expected)
}

fn field(at: &str, found: &str, expected: &str) -> PolicyError {
    PolicyError::Field { at: at.to_owned(), found: format!("`{found}`"), expected: expected.to_owned() }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn policy(statement: &str) -> Result<Policy, PolicyError> {
        Policy::parse(&format!(r#"{{"Version": "2012-10-17", "Statement": [{statement}]}}"#))
    }

    fn context(pairs: &[(&str, &str)]) -> Context {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), vec![(*value).to_owned()])).collect()
    }

    const ENI: &str = "arn:aws:ec2:us-west-2:111122223333:network-interface/eni-1";

    #[test]
    fn a_deny_beats_an_allow_and_silence_is_no() {
        let both = policy(
            r#"{"Effect": "Allow", "Action": "ec2:Describe*", "Resource": "*"},
               {"Effect": "Deny", "NotAction": ["ec2:DescribeTags", "ec2:CreateTags"], "Resource": "*"}"#,
        )
        .unwrap();
        let decide = |action| both.decide(action, "*", &Context::new());
        assert_eq!(decide("ec2:DescribeTags"), Decision::Allowed);
        assert_eq!(decide("ec2:describetags"), Decision::Allowed, "actions are the same in any case");
        assert_eq!(decide("ec2:DescribeVpcs"), Decision::Denied);
        assert_eq!(decide("ec2:CreateTags"), Decision::NotAllowed);
    }

    #[test]
    fn resources_are_held_against_patterns() {
        let policy = Policy::parse(VPC_CNI_POLICY).unwrap();
        let decide = |resource| policy.decide("ec2:CreateTags", resource, &Context::new());
        assert_eq!(decide(ENI), Decision::Allowed);
        assert_eq!(decide("arn:aws:ec2:us-west-2:111122223333:subnet/subnet-1"), Decision::NotAllowed);
        assert_eq!(decide("*"), Decision::NotAllowed);
        assert_eq!(policy.decide("ec2:RunInstances", "*", &Context::new()), Decision::NotAllowed);
    }

    #[test]
    fn conditions_hold_or_not() {
        for (operator, value, tag, expected) in [
            ("StringEquals", r#""a""#, Some("a"), true),
            ("StringEquals", r#"["b", "a"]"#, Some("a"), true),
            ("StringEquals", r#""A""#, Some("a"), false),
            ("StringEquals", r#""a""#, None, false),
            ("StringEqualsIfExists", r#""a""#, None, true),
            ("StringEqualsIgnoreCase", r#""A""#, Some("a"), true),
            ("StringNotEquals", r#""a""#, Some("a"), false),
            ("StringNotEquals", r#""a""#, None, true),
            ("StringLike", r#""a*""#, Some("abc"), true),
            ("StringNotLike", r#""a*""#, Some("abc"), false),
            ("Null", r#""true""#, None, true),
            ("Null", "false", None, false),
            ("Null", "false", Some("a"), true),
        ] {
            let statement = format!(
                r#"{{"Effect": "Allow", "Action": "*", "Resource": "*", "Condition": {{"{operator}": {{"aws:ResourceTag/Team": {value}}}}}}}"#
            );
            let pairs: Vec<_> = tag.iter().map(|tag| ("aws:resourcetag/team", *tag)).collect();
            let decision = policy(&statement).unwrap().decide("ec2:X", ENI, &context(&pairs));
            assert_eq!(decision == Decision::Allowed, expected, "{operator} {value} {tag:?}");
        }
    }

    #[test]
    fn what_is_not_known_is_refused_by_name() {
        for (statement, part) in [
            (r#"{"Effect": "Maybe", "Action": "*", "Resource": "*"}"#, "Statement[0].Effect"),
            (r#"{"Effect": "Allow", "Resource": "*"}"#, "either Action or NotAction"),
            (r#"{"Effect": "Allow", "Action": "*"}"#, "either Resource or NotResource"),
            (r#"{"Effect": "Allow", "Action": "CreateTags", "Resource": "*"}"#, "ec2:CreateTags"),
            (r#"{"Effect": "Allow", "Action": "*", "Resource": "eni-1"}"#, "an ARN"),
            (r#"{"Effect": "Allow", "Action": "*", "Resource": "*", "Principal": "*"}"#, "`Principal`"),
            (
                r#"{"Effect": "Allow", "Action": "*", "Resource": "*", "Condition": {"IpAddress": {"aws:SourceIp": "10.0.0.0/8"}}}"#,
                "`IpAddress` is not accepted: expected one of StringEquals",
            ),
            (
                r#"{"Effect": "Allow", "Action": "*", "Resource": "*", "Condition": {"StringEquals": {"aws:SourceIp": "x"}}}"#,
                "`aws:SourceIp` is not accepted: expected one of aws:RequestTag/",
            ),
        ] {
            let error = policy(statement).unwrap_err().to_string();
            assert!(error.contains(part), "{error}");
        }
        assert!(Policy::parse("{").unwrap_err().to_string().contains("not JSON"));
        assert!(Policy::parse(r#"{"Statement": []}"#).unwrap_err().to_string().contains("2012-10-17"));
    }
}
