//! The hand that writes the checkpoint.
//!
//! ```text
//!   Effect::WriteCheckpoint --Hand::write--> memory-backed: written here and now --> Some(result)
//!                                        \-> a disk: thread --door--> Input::CheckpointWritten
//! ```
//!
//! Putting a file on a disk must not hold up anybody else's answer, so a disk has a thread of its own. Where the folder is memory
//! (the usual `/var/run`), a write takes less time than waking that thread and being woken by it.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::thread;

use nix::sys::statfs::{FsType, TMPFS_MAGIC, statfs};
use vpc_agent::{Generation, Input, Update};
use vpc_wire::checkpoint as file;

use crate::books::Pages;
use crate::door::Door;

/// `RAMFS_MAGIC` of linux/magic.h.
const RAMFS_MAGIC: i64 = 0x8584_58f6;

/// Where updates go.
#[derive(Debug)]
pub enum Hand {
    /// Written by whoever hands them in.
    Here(Writer),
    /// Written by a thread that reports through the door.
    Thread(mpsc::Sender<(Generation, Update)>),
}

/// The thread has ended.
#[derive(Debug, thiserror::Error)]
#[error("the checkpoint's thread has ended")]
pub struct Lost;

impl Hand {
    /// The right one for the path. `earlier` is the generation of the file that was found at start: the file counts its writes over
    /// all its life.
    ///
    /// # Errors
    /// The system gives no thread.
    pub fn start(path: PathBuf, earlier: u64, door: Door) -> io::Result<Self> {
        let in_memory = path.parent().is_some_and(is_memory);
        let mut writer = Writer { path, earlier, pages: Pages::default(), text: Vec::new() };
        if in_memory {
            return Ok(Self::Here(writer));
        }
        let (work, inbox) = mpsc::channel::<(Generation, Update)>();
        thread::Builder::new().name("checkpoint".to_owned()).spawn(move || {
            for (generation, update) in inbox {
                let result = writer.write(generation, update);
                door.tell_from_thread(Input::CheckpointWritten { generation, result });
            }
        })?;
        Ok(Self::Thread(work))
    }

    /// Has an update written; what came of it, if that is known already.
    ///
    /// # Errors
    /// The thread has ended.
    pub fn write(&mut self, generation: Generation, update: Update) -> Result<Option<Result<(), String>>, Lost> {
        match self {
            Self::Here(writer) => Ok(Some(writer.write(generation, update))),
            Self::Thread(work) => work.send((generation, update)).map(|()| None).map_err(|_| Lost),
        }
    }
}

/// The file, and what stands in it.
#[derive(Debug)]
pub struct Writer {
    path: PathBuf,
    earlier: u64,
    pages: Pages,
    /// The whole text; kept so that its memory is.
    text: Vec<u8>,
}

impl Writer {
    fn write(&mut self, generation: Generation, update: Update) -> Result<(), String> {
        self.pages.update(update).map_err(|error| file::StoreError::from(error).to_string())?;
        self.pages.render(self.earlier.saturating_add(generation.0), &mut self.text);
        file::store_text(&self.path, &self.text).map_err(|error| error.to_string())
    }
}

/// Whether what is in the folder is in memory, so that no write waits for a disk.
fn is_memory(folder: &Path) -> bool {
    let kind = statfs(folder).map(|answer| answer.filesystem_type());
    kind.is_ok_and(|kind| kind == TMPFS_MAGIC || kind == FsType(RAMFS_MAGIC as _))
}
