//! The hand that writes the checkpoint.
//!
//! ```text
//!   Effect::WriteCheckpoint --Hand::write--> memory-backed: written here and now --> Some(result)
//!                                        \-> a disk: thread --door--> Input::CheckpointWritten
//! ```
//!
//! Putting a file on a disk must not hold up anybody else's answer, so a disk has a thread of its own. Where the folder is memory
//! (the usual `/var/run`), a write takes less time than waking that thread and being woken by it.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use nix::sys::statfs::{FsType, TMPFS_MAGIC, statfs};
use tokio::time::sleep;
use vpc_agent::{Generation, Input, Update};
use vpc_wire::checkpoint as file;

use crate::books::Pages;
use crate::door::Door;
use crate::failpoint::Point;

/// `RAMFS_MAGIC` of linux/magic.h.
const RAMFS_MAGIC: i64 = 0x8584_58f6;

/// By then, those who waited for a checkpoint have their answer.
const ANSWERED: Duration = Duration::from_millis(1);

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
        let writer = Writer::new(path, earlier);
        if in_memory { Ok(Self::Here(writer)) } else { Self::on_a_thread(writer, door) }
    }

    fn on_a_thread(mut writer: Writer, door: Door) -> io::Result<Self> {
        let (work, inbox) = mpsc::channel::<(Generation, Update)>();
        thread::Builder::new().name("checkpoint".to_owned()).spawn(move || {
            for (generation, update) in inbox {
                let (result, former) = writer.write(generation, update);
                door.tell_from_thread(Input::CheckpointWritten { generation, result });
                drop(former);
            }
        })?;
        Ok(Self::Thread(work))
    }

    /// Has an update written; what came of it, if that is known already. Within the runtime.
    ///
    /// # Errors
    /// The thread has ended.
    pub fn write(&mut self, generation: Generation, update: Update) -> Result<Option<Result<(), String>>, Lost> {
        match self {
            Self::Here(writer) => {
                let (result, former) = writer.write(generation, update);
                tokio::spawn(async {
                    sleep(ANSWERED).await;
                    drop(former);
                });
                Ok(Some(result))
            }
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
    /// The file that stands there, once we have written one.
    current: Option<File>,
    /// The whole text; kept so that its memory is.
    text: Vec<u8>,
}

impl Writer {
    fn new(path: PathBuf, earlier: u64) -> Self {
        Self { path, earlier, pages: Pages::default(), current: None, text: Vec::new() }
    }

    /// Writes; gives the file that was replaced, if it is ours. To close it costs as much as to write it, and nobody waits for that.
    fn write(&mut self, generation: Generation, update: Update) -> (Result<(), String>, Option<File>) {
        match self.try_write(generation, update) {
            Ok(file) => (Ok(()), self.current.replace(file)),
            Err(error) => (Err(error.to_string()), None),
        }
    }

    fn try_write(&mut self, generation: Generation, update: Update) -> Result<File, file::StoreError> {
        self.pages.update(update)?;
        self.pages.render(self.earlier.saturating_add(generation.0), &mut self.text);
        file::store_text_in_steps(&self.path, &self.text, |step| Point::from(step).reach())
    }
}

/// Whether what is in the folder is in memory, so that no write waits for a disk.
fn is_memory(folder: &Path) -> bool {
    let kind = statfs(folder).map(|answer| answer.filesystem_type());
    kind.is_ok_and(|kind| kind == TMPFS_MAGIC || kind == FsType(RAMFS_MAGIC as _))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use vpc_agent::Checkpoint;

    use super::*;
    use crate::door::{Event, door};

    fn run(test: impl Future<Output = ()>) {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(test);
    }

    #[test]
    fn in_memory_the_file_is_there_when_write_returns() {
        let shm = Path::new("/dev/shm");
        if !is_memory(shm) {
            return println!("SKIPPED in_memory_the_file_is_there_when_write_returns: /dev/shm is no tmpfs");
        }
        run(async {
            let folder = tempfile::tempdir_in(shm).unwrap();
            let path = folder.path().join("ipam.json");
            let (door, _inbox) = door();
            let mut hand = Hand::start(path.clone(), 6, door).unwrap();
            for (ours, generation) in [(1, 7), (2, 8)] {
                let written = hand.write(Generation(ours), Update::Whole(Checkpoint::default())).unwrap();
                assert_eq!(written, Some(Ok(())));
                assert_eq!(file::load(&path).unwrap().unwrap().generation, generation, "six were of earlier runs");
            }
            drop(folder);
            let failed = hand.write(Generation(3), Update::Whole(Checkpoint::default())).unwrap().unwrap();
            assert!(failed.unwrap_err().contains("ipam.json"));
        });
    }

    #[test]
    fn a_disk_is_written_by_a_thread_that_reports_through_the_door() {
        // What no file system is, is no memory either.
        assert!(!is_memory(Path::new("/proc/self")) && !is_memory(Path::new("/nowhere")));
        run(async {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("ipam.json");
            let (door, mut inbox) = door();
            let mut hand = Hand::on_a_thread(Writer::new(path.clone(), 0), door).unwrap();
            assert_eq!(hand.write(Generation(3), Update::Whole(Checkpoint::default())).unwrap(), None);
            let Some(Event::Told(Input::CheckpointWritten { generation, result })) = inbox.recv().await else {
                panic!()
            };
            assert_eq!((generation, result), (Generation(3), Ok(())));
            assert_eq!(file::load(&path).unwrap().unwrap().generation, 3);
        });
    }
}
