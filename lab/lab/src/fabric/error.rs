//! What can go wrong in the kernel.

/// A step of building or changing the network that failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FabricError {
    /// The kernel refused.
    #[error("{step}: {cause}")]
    Refused {
        /// What was done.
        step: String,
        /// What the kernel said.
        cause: String,
    },
    /// The cloud speaks of something that the topology does not have.
    #[error("there is no {kind} {name} in the topology")]
    Unknown {
        /// What it should be.
        kind: &'static str,
        /// Its name.
        name: String,
    },
}

impl FabricError {
    pub(super) fn unknown(kind: &'static str, name: &impl ToString) -> Self {
        Self::Unknown { kind, name: name.to_string() }
    }
}

/// Says what was being done when an error came.
pub(super) trait Context<T> {
    fn context(self, step: impl Into<String>) -> Result<T, FabricError>;
}

impl<T, E: std::fmt::Display> Context<T> for Result<T, E> {
    fn context(self, step: impl Into<String>) -> Result<T, FabricError> {
        self.map_err(|e| FabricError::Refused { step: step.into(), cause: e.to_string() })
    }
}
