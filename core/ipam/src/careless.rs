//! The marks of deliberate bugs: where a careless engineer would have written something else.

/// Whether a deliberate bug is switched on: `bug!(AnswerBeforeCheckpoint)`, by its name in [`crate::bugs::Bug`].
#[cfg(feature = "deliberate-bugs")]
#[macro_export]
macro_rules! bug {
    ($name:ident) => {
        $crate::bugs::on($crate::bugs::Bug::$name)
    };
}

/// Whether a deliberate bug is switched on. Here they are not built in (feature `deliberate-bugs`): never, and nothing of it is left.
#[cfg(not(feature = "deliberate-bugs"))]
#[macro_export]
macro_rules! bug {
    ($name:ident) => {
        false
    };
}
