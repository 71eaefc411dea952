//! What an earlier run left behind: the checkpoint or, where there is none that can be read, what the kernel's links say.

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::Context as _;
use vpc_agent::Checkpoint;
use vpc_model::{EniId, VethPrefix};
use vpc_wire::checkpoint as file;

use crate::failpoint::Point;
use crate::host::Hand;
use crate::{books, calendar, clock};

/// Found at start.
#[derive(Clone, Debug, Default)]
pub struct Memory {
    /// Who had which address, what rested, what the pool held.
    pub books: Checkpoint,
    /// How often the file had been written.
    pub writes: u64,
}

impl Memory {
    /// The ENIs the pool held.
    #[must_use]
    pub fn enis(&self) -> BTreeSet<EniId> {
        self.books.enis.iter().map(|eni| eni.facts.id.clone()).collect()
    }
}

/// Reads it, and holds it against the kernel's links. A file that is damaged is kept aside, and the kernel's links are asked; so they are where the file is gone, for pods
/// do not go with it. After a reboot there are neither.
///
/// # Errors
/// The system does not let us read: then nobody knows which addresses are taken, and none may be given.
pub fn recall(checkpoint: &Path, host: &mut impl Hand, prefix: &VethPrefix) -> anyhow::Result<Memory> {
    if let Some(folder) = checkpoint.parent() {
        std::fs::create_dir_all(folder).with_context(|| format!("the folder {}", folder.display()))?;
    }
    match file::clean_leftovers(checkpoint) {
        Ok(0) => {}
        Ok(count) => tracing::info!("removed {count} unfinished checkpoints of an earlier run"),
        Err(error) => tracing::warn!("unfinished checkpoints of an earlier run can not be removed: {error}"),
    }
    let memory = match file::load(checkpoint) {
        Ok(Some(read)) => heed_the_kernel(of_today(understand(read), checkpoint), host, prefix)?,
        Ok(None) => ask_the_kernel(host, prefix)?,
        Err(error @ file::LoadError::Damaged { .. }) => {
            tracing::error!("{error}; what the kernel's links say is taken instead");
            put_aside(checkpoint);
            ask_the_kernel(host, prefix)?
        }
        Err(error @ file::LoadError::Unreadable { .. }) => return Err(error.into()),
    };
    Point::StartBeforeNote.pass();
    calendar::note(checkpoint);
    Ok(memory)
}

/// With the times of the file as the calendar has them now, on disk too: the next run must not move them again.
fn of_today(mut memory: Memory, checkpoint: &Path) -> Memory {
    if calendar::catch_up(checkpoint, &mut memory.books)
        && let Err(error) = file::store(checkpoint, &books::to_file(&memory.books, memory.writes))
    {
        tracing::warn!("{error}");
    }
    memory
}

fn understand(read: file::Checkpoint) -> Memory {
    let writes = read.generation;
    let (books, unusable) = books::from_file(read);
    for what in unusable {
        tracing::error!("checkpoint: {what}");
    }
    tracing::info!(pods = books.leases.len(), resting = books.rests.len(), "the checkpoint is read back");
    Memory { books, writes }
}

fn heed_the_kernel(mut memory: Memory, host: &mut impl Hand, prefix: &VethPrefix) -> anyhow::Result<Memory> {
    let seen = host.observe().map_err(anyhow::Error::msg).context("the host's network can not be read")?;
    let (seen, _) = books::from_host(&seen, prefix, clock::wall());
    for what in books::heed_the_kernel(&mut memory.books, seen) {
        tracing::error!("the kernel's links say that {what}; they are believed");
    }
    Ok(memory)
}

fn ask_the_kernel(host: &mut impl Hand, prefix: &VethPrefix) -> anyhow::Result<Memory> {
    let seen = host.observe().map_err(anyhow::Error::msg).context("the host's network can not be read")?;
    let (books, unnamed) = books::from_host(&seen, prefix, clock::wall());
    for what in unnamed {
        tracing::error!("{what}: the link does not say whose it is; the address is kept from other pods");
    }
    if !books.leases.is_empty() {
        tracing::warn!(pods = books.leases.len(), "pods were found by their links, without a checkpoint");
    }
    Ok(Memory { books, writes: 0 })
}

fn put_aside(checkpoint: &Path) {
    match file::keep_aside(checkpoint) {
        Ok(aside) => tracing::error!("the damaged file is kept as {}", aside.display()),
        Err(error) => tracing::error!("{error}; it will be replaced"),
    }
}
