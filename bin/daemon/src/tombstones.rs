//! DELs that found no daemon: the plugin left notes, and here they are carried out, at start and from time to time after (a daemon
//! that hung for a while misses DELs too).

use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval};
use vpc_agent::{Input, Outcome};
use vpc_wire::tombstone::{self, Tombstone};

use crate::door::Door;
use crate::failpoint::Point;

/// How often the folder is looked into. It is empty but after trouble; the look costs one system call.
const PERIOD: Duration = Duration::from_secs(5);

/// The folder of notes beside a socket.
#[must_use]
pub fn folder(socket: &Path) -> PathBuf {
    let name = Path::new(tombstone::TOMBSTONES).file_name().unwrap_or_default();
    socket.parent().unwrap_or(Path::new("/")).join(name)
}

/// Carries out what notes say, until the daemon ends.
pub async fn watch(folder: PathBuf, door: Door) {
    let mut timer = interval(PERIOD);
    timer.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut said = Vec::new();
    loop {
        timer.tick().await;
        let found = match tombstone::read(&folder) {
            Ok(found) => found,
            Err(error) => {
                tracing::error!(
                    "DELs of pods that ended without the daemon can not be read in {}: {error}",
                    folder.display()
                );
                return;
            }
        };
        for (path, why) in found.rubbish {
            if !said.contains(&path) {
                tracing::warn!("{} is not a note of a DEL, it is left alone: {why}", path.display());
                said.push(path);
            }
        }
        for note in found.notes {
            if !carry_out(&note, &door).await {
                return;
            }
        }
    }
}

/// Whether the agent still listens. The note goes only when the DEL is on disk.
async fn carry_out(note: &Tombstone, door: &Door) -> bool {
    Point::NoteRead.pass();
    let key = note.key.clone();
    match door.ask(|ticket| Input::Del { ticket, key }, None).await {
        Ok(Outcome::Deleted(_)) => {
            tracing::info!("{} ended while the daemon was away", note.key);
            Point::NoteBeforeForget.pass();
            if let Err(error) = tombstone::forget(&note.path) {
                tracing::warn!("{} stays and is carried out again: {error}", note.path.display());
            }
            Point::NoteForgotten.pass();
            true
        }
        Ok(_) => true,
        Err(_) => false,
    }
}
