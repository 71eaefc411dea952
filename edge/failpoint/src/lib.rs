//! Failpoints: named places in a program where a test has it killed, delayed or handed an error.
//!
//! ```text
//!   points! { "aws-cni": enum Point { AddBeforeAsk = "add-before-ask", ... } }      each program lists its own, in one enum
//!   Point::AddBeforeAsk.reach()?                                                    where it happens
//!
//!   test --writes--> /run/vpc-cni-failpoints/aws-cni/add-before-ask: "kill" --reach--> the file goes, the process is killed
//!                    environment: VPC_CNI_FAILPOINT=add-before-ask:2=error:EIO   (the second time, for one process)
//! ```
//!
//! An order is `[N[+]=]ACTION`: the Nth time the place is reached in a process (default 1), or from the Nth time on (`+`). For an order in
//! a file, times count from when it was given; it is carried out once, by whichever process takes the file away, and is kept with `+`. Actions: `kill`, `kill-after:MICROSECONDS`
//! (of the moment the place was reached), `error:ERRNO` (`ENOSPC`), `wait:MILLISECONDS`, `clock:SECONDS` (what a clock is off by).
//!
//! If the folder has a file `<program>.reached`, the name of each place is appended when it is first reached in a process.
//!
//! Without the feature `armed` all of this is empty functions, and no word of it is in the program.

#[cfg(feature = "armed")]
mod armed;
#[cfg(feature = "armed")]
mod order;

#[cfg(feature = "armed")]
pub use armed::{ENVIRONMENT, FOLDER, MARK, clock_is_off_by, list, reach};

/// Makes a program's enum of failpoints.
///
/// Each variant has a name; `reach()` may hand back an error, `pass()` only kills or waits, `listed()` prints all names when the
/// environment asks for that and says whether it did.
#[macro_export]
macro_rules! points {
    ($program:literal: $(#[$about:meta])* $seen:vis enum $Point:ident { $($(#[$doc:meta])* $point:ident = $name:literal,)* }) => {
        $(#[$about])*
        #[derive(Clone, Copy, PartialEq, Eq)]
        $seen enum $Point {
            $($(#[$doc])* $point,)*
        }

        impl $Point {
            fn name(self) -> &'static str {
                match self {
                    $(Self::$point => $name,)*
                }
            }

            /// The program is here.
            ///
            /// # Errors
            /// The one a test has ordered.
            #[inline]
            $seen fn reach(self) -> ::std::io::Result<()> {
                $crate::reach($program, || self.name())
            }

            /// The program is here, and nothing can fail here but the program itself.
            #[inline]
            $seen fn pass(self) {
                let _ = self.reach();
            }

            /// Prints the names of all, if the environment asks for that.
            #[inline]
            $seen fn listed() -> bool {
                $crate::list(|| &[$($name),*])
            }
        }
    };
}

/// The program is at a failpoint. Not armed: nothing.
///
/// # Errors
/// None.
#[cfg(not(feature = "armed"))]
#[inline(always)]
#[expect(clippy::inline_always, reason = "so that nothing of it is left, in no profile")]
pub fn reach(_program: &'static str, _point: impl FnOnce() -> &'static str) -> std::io::Result<()> {
    Ok(())
}

/// Prints names of failpoints if asked to. Not armed: nothing.
#[cfg(not(feature = "armed"))]
#[inline(always)]
#[expect(clippy::inline_always, reason = "so that nothing of it is left, in no profile")]
pub fn list(_names: impl FnOnce() -> &'static [&'static str]) -> bool {
    false
}

/// Seconds a clock is off by. Not armed: none.
#[cfg(not(feature = "armed"))]
#[inline(always)]
#[must_use]
#[expect(clippy::inline_always, reason = "so that nothing of it is left, in no profile")]
pub fn clock_is_off_by(_program: &'static str, _point: impl FnOnce() -> &'static str) -> i64 {
    0
}
