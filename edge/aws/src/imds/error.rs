//! Values that could not be read.

use std::fmt;

use crate::ec2::shapes::scalar::Scalar;

/// A value that could not be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImdsError {
    /// The path that was asked for (`/latest/…`).
    pub path: String,
    /// Why not.
    pub failure: ImdsFailure,
}

/// Why a value could not be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ImdsFailure {
    /// `AWS_EC2_METADATA_DISABLED` is set.
    Disabled,
    /// There is no such value, and it is one that every instance has.
    NotFound,
    /// No session: IMDS refused to give a token, with this status.
    NoSession {
        /// HTTP status of the answer to the PUT.
        status: u16,
    },
    /// Another status than expected, at the last attempt.
    Status(u16),
    /// No answer in time, at any attempt.
    Timeout,
    /// No connection, or it broke, at the last attempt.
    Transport(String),
    /// A value that does not fit.
    BadValue {
        /// The text.
        text: String,
        /// What is accepted.
        expected: &'static str,
    },
}

impl fmt::Display for ImdsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "instance metadata {}: ", self.path)?;
        match &self.failure {
            ImdsFailure::Disabled => f.write_str("switched off by AWS_EC2_METADATA_DISABLED; unset it"),
            ImdsFailure::NotFound => f.write_str("there is no such value"),
            ImdsFailure::NoSession { status } => {
                write!(f, "no session token: HTTP status {status}; is the metadata service enabled on this instance?")
            }
            ImdsFailure::Status(status) => write!(f, "HTTP status {status}"),
            ImdsFailure::Timeout => f.write_str(
                "no answer; is the instance's hop limit too low for this container, or the address blocked?",
            ),
            ImdsFailure::Transport(why) => f.write_str(why),
            ImdsFailure::BadValue { text, expected } => write!(f, "`{text}` is not {expected}"),
        }
    }
}

impl std::error::Error for ImdsError {}

pub(super) fn failed(path: &str, failure: ImdsFailure) -> ImdsError {
    ImdsError { path: format!("/latest/meta-data/{path}"), failure }
}

pub(super) fn parse<T: Scalar>(path: &str, text: &str) -> Result<T, ImdsError> {
    T::parse(text).ok_or_else(|| failed(path, ImdsFailure::BadValue { text: text.to_owned(), expected: T::EXPECTED }))
}
