//! What is to be said about a node's settings before anything starts.

use std::fmt;

/// How bad it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The daemon does not start.
    Refused,
    /// The daemon starts with this value instead.
    FellBack {
        /// The value that holds.
        to: String,
    },
    /// The value is understood, and nothing in this release acts on it.
    Ineffective,
    /// Fine, and worth knowing.
    Note,
}

/// One thing to be said about one variable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The variable's name.
    pub variable: String,
    /// The value as it was given (or the item of a list); `None` when the variable is not set.
    pub value: Option<String>,
    /// What is the matter, as the end of a sentence.
    pub matter: String,
    /// How bad it is.
    pub verdict: Verdict,
}

impl Finding {
    /// Whether a check of the configuration fails because of it: everything that makes the node differ from what was written.
    #[must_use]
    pub fn is_bad(&self) -> bool {
        match self.verdict {
            Verdict::Refused | Verdict::FellBack { .. } | Verdict::Ineffective => true,
            Verdict::Note => false,
        }
    }

    /// Says it in the log, by its weight.
    pub fn log(&self) {
        if self.is_bad() {
            tracing::error!("setting {self}");
        } else {
            tracing::warn!("setting {self}");
        }
    }

    /// Whether the daemon must not start.
    #[must_use]
    pub fn is_fatal(&self) -> bool {
        self.verdict == Verdict::Refused
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.value {
            Some(value) => write!(f, "{}=`{value}`: {}", self.variable, self.matter)?,
            None => write!(f, "{} is not set: {}", self.variable, self.matter)?,
        }
        match &self.verdict {
            Verdict::FellBack { to } => write!(f, "; using `{to}`"),
            Verdict::Ineffective => f.write_str("; it has no effect"),
            Verdict::Refused | Verdict::Note => Ok(()),
        }
    }
}
