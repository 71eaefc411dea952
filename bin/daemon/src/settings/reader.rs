//! Takes values out of the environment, one variable at a time, and writes down what was found.

use std::collections::BTreeMap;

use super::file::FileValues;
use super::finding::{Finding, Verdict};
use super::parse;
use super::table::{OnBad, Variable};
use vpc_model::Ipv4Net;

/// The environment as plain data, so that a test can make one up.
pub type Env = BTreeMap<String, String>;

/// Where an effective value comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The variable is not set.
    Default,
    /// The variable says so.
    Environment,
    /// The file of settings says so.
    File,
    /// The variable says something else, which was not taken.
    FellBack,
}

/// One line of the effective settings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// The variable.
    pub name: &'static str,
    /// The value that holds, as text.
    pub value: String,
    /// Where it comes from.
    pub origin: Origin,
}

/// Reads variables of one environment. Every read leaves a [`Row`]; a value that was not taken leaves a [`Finding`] too.
pub(super) struct Reader<'a> {
    env: &'a Env,
    file: &'a FileValues,
    pub(super) findings: Vec<Finding>,
    pub(super) rows: Vec<Row>,
}

impl<'a> Reader<'a> {
    /// Reads `env`, which holds the values of `file` already.
    pub(super) fn new(env: &'a Env, file: &'a FileValues) -> Self {
        Self { env, file, findings: Vec::new(), rows: Vec::new() }
    }

    /// The text as set; `None` if it is not set, or empty where that counts as not set.
    pub(super) fn raw(&self, var: &Variable) -> Option<&'a str> {
        let text = self.env.get(var.name)?.as_str();
        if text.is_empty() && var.parser.empty_is_unset() { None } else { Some(text) }
    }

    /// Where a value that is set comes from.
    fn origin(&self, var: &Variable) -> Origin {
        if self.file.values.contains_key(var.name) { Origin::File } else { Origin::Environment }
    }

    /// Whether a boolean that was read before holds.
    pub(super) fn is_on(&self, var: &Variable) -> bool {
        self.rows.iter().any(|row| row.name == var.name && row.value == "true")
    }

    /// All variables of the environment, known or not.
    pub(super) fn environment(&self) -> impl Iterator<Item = (&'a str, &'a str)> + use<'a> {
        self.env.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// One variable of the environment as it is.
    pub(super) fn environment_value(&self, name: &str) -> Option<String> {
        self.env.get(name).cloned()
    }

    /// Corrects the row of the variable that was read last.
    pub(super) fn amend(&mut self, value: &str, origin: Origin) {
        if let Some(row) = self.rows.last_mut() {
            (row.value, row.origin) = (value.to_owned(), origin);
        }
    }

    /// Says something about a variable as it is set.
    pub(super) fn find(&mut self, var: &'static Variable, verdict: Verdict, matter: impl Into<String>) {
        let value = self.env.get(var.name).cloned();
        self.findings.push(Finding { variable: var.name.to_owned(), value, matter: matter.into(), verdict });
    }

    pub(super) fn boolean(&mut self, var: &'static Variable) -> bool {
        self.take(var, parse::boolean, bool::to_string, false)
    }

    /// An integer that `valid` approves.
    pub(super) fn integer(&mut self, var: &'static Variable, valid: impl Fn(i64) -> bool) -> i64 {
        self.take(var, |text| parse::integer(text).filter(|n| valid(*n)), i64::to_string, 0)
    }

    /// An integer that `valid` approves, of a variable without a default.
    pub(super) fn optional_integer(&mut self, var: &'static Variable, valid: impl Fn(i64) -> bool) -> Option<i64> {
        let understand = |text: &str| parse::integer(text).filter(|n| valid(*n)).map(Some);
        self.take(var, understand, |n| n.map_or(String::new(), |n| n.to_string()), None)
    }

    /// A value that `understand` finds in the text. `last` holds when not even the default is understood: that is so for a
    /// variable without a default, and for no other (a test over the table keeps it).
    pub(super) fn take<T>(
        &mut self,
        var: &'static Variable,
        understand: impl Fn(&str) -> Option<T>,
        show: impl Fn(&T) -> String,
        last: T,
    ) -> T {
        let raw = self.raw(var);
        let (value, origin) = match raw.map(&understand) {
            Some(Some(value)) => (value, self.origin(var)),
            Some(None) => (understand(var.default).unwrap_or(last), Origin::FellBack),
            None => (understand(var.default).unwrap_or(last), Origin::Default),
        };
        if origin == Origin::FellBack {
            self.bad(var, &show(&value));
        }
        self.row(var, show(&value), origin);
        value
    }

    pub(super) fn text(&mut self, var: &'static Variable) -> String {
        let (text, origin) = match self.raw(var) {
            Some(text) => (text, self.origin(var)),
            None => (var.default, Origin::Default),
        };
        self.row(var, text.to_owned(), origin);
        text.to_owned()
    }

    /// One of a few words, each standing for a value.
    pub(super) fn choice<T: Copy + PartialEq>(&mut self, var: &'static Variable, words: &[(&str, T)], last: T) -> T {
        let understand = |text: &str| words.iter().find(|(word, _)| *word == text).map(|(_, value)| *value);
        let show =
            |value: &T| words.iter().find(|(_, v)| v == value).map_or(String::new(), |(word, _)| (*word).to_owned());
        self.take(var, understand, show, last)
    }

    pub(super) fn networks(&mut self, var: &'static Variable) -> Vec<Ipv4Net> {
        let list = parse::networks(self.raw(var).unwrap_or(var.default));
        for (item, why) in &list.skipped {
            self.findings.push(Finding {
                variable: var.name.to_owned(),
                value: Some(item.clone()),
                matter: format!("is {why}; expected {}", var.accepted),
                verdict: Verdict::FellBack { to: show_networks(&list.taken) },
            });
        }
        let origin = match (self.raw(var), list.skipped.is_empty()) {
            (None, _) => Origin::Default,
            (Some(_), true) => self.origin(var),
            (Some(_), false) => Origin::FellBack,
        };
        self.row(var, show_networks(&list.taken), origin);
        list.taken
    }

    pub(super) fn row(&mut self, var: &'static Variable, value: String, origin: Origin) {
        self.rows.push(Row { name: var.name, value, origin });
    }

    /// Notes a value outside the accepted set, with the consequence the table has for it.
    pub(super) fn bad(&mut self, var: &'static Variable, instead: &str) {
        let verdict = match var.on_bad {
            OnBad::Exit => Verdict::Refused,
            OnBad::Default | OnBad::Taken => Verdict::FellBack { to: instead.to_owned() },
        };
        self.find(var, verdict, format!("expected {}", var.accepted));
    }
}

fn show_networks(list: &[Ipv4Net]) -> String {
    list.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
}
