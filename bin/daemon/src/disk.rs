//! The hand that writes the checkpoint, on a thread of its own: putting a file on disk must not hold up anybody else's answer.

use std::io;
use std::path::PathBuf;
use std::sync::mpsc;
use std::thread;

use vpc_agent::{Checkpoint, Generation, Input};
use vpc_wire::checkpoint as file;

use crate::books;
use crate::door::Door;

/// Starts it. `earlier` is the generation of the file that was found at start: the file counts its writes over all its life.
///
/// # Errors
/// The system gives no thread.
pub fn start(path: PathBuf, earlier: u64, door: Door) -> io::Result<mpsc::Sender<(Generation, Checkpoint)>> {
    let (work, inbox) = mpsc::channel::<(Generation, Checkpoint)>();
    thread::Builder::new().name("checkpoint".to_owned()).spawn(move || {
        for (generation, checkpoint) in inbox {
            let document = books::to_file(&checkpoint, earlier.saturating_add(generation.0));
            let result = file::store(&path, &document).map_err(|error| error.to_string());
            door.tell_from_thread(Input::CheckpointWritten { generation, result });
        }
    })?;
    Ok(work)
}
