//! What is written on a node, read piece by piece.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;

use super::node::{LOG_DIR, Node};
use crate::control::{Failure, LogPiece, LogSource};

/// Bytes that are handed out at once.
const PIECE: u64 = 64 << 10;
/// Where on a node's disk the CNI keeps its logs: `/var/log/aws-routed-eni`.
const CNI_LOGS: &str = "var-log/aws-routed-eni";

impl Node {
    /// What has been written, from a byte on.
    pub(super) fn log(&self, source: LogSource, from: u64) -> Result<LogPiece, Failure> {
        let file = self.disk().join(match source {
            LogSource::Output => format!("{LOG_DIR}/daemon.log"),
            LogSource::Daemon => format!("{CNI_LOGS}/ipamd.log"),
            LogSource::Plugin => format!("{CNI_LOGS}/plugin.log"),
        });
        piece(&file, from).map_err(|e| Failure::other(format!("read {} of {}: {e}", file.display(), self.spec.name)))
    }
}

/// A piece of a file that others write; nothing, if nobody has begun.
fn piece(file: &Path, from: u64) -> io::Result<LogPiece> {
    let mut file = match File::open(file) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(LogPiece { text: String::new(), next: 0 }),
        other => other?,
    };
    // One that is shorter than it was has been begun anew.
    let from = if from > file.metadata()?.len() { 0 } else { from };
    file.seek(SeekFrom::Start(from))?;
    let mut bytes = Vec::new();
    file.take(PIECE).read_to_end(&mut bytes)?;
    // Half a line waits for its end, unless nothing but it fits.
    let line = bytes.iter().rposition(|byte| *byte == b'\n').map(|at| at + 1);
    let full = u64::try_from(bytes.len()).is_ok_and(|length| length == PIECE);
    bytes.truncate(line.unwrap_or(if full { bytes.len() } else { 0 }));
    let length = u64::try_from(bytes.len()).unwrap_or(0);
    Ok(LogPiece { text: String::from_utf8_lossy(&bytes).into_owned(), next: from + length })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn whole_lines_come_piece_by_piece() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("log");
        assert_eq!(piece(&file, 0).unwrap(), LogPiece { text: String::new(), next: 0 });
        std::fs::write(&file, "one\ntw").unwrap();
        assert_eq!(piece(&file, 0).unwrap(), LogPiece { text: "one\n".to_owned(), next: 4 });
        assert_eq!(piece(&file, 4).unwrap(), LogPiece { text: String::new(), next: 4 });
        std::fs::write(&file, "one\ntwo\n").unwrap();
        assert_eq!(piece(&file, 4).unwrap(), LogPiece { text: "two\n".to_owned(), next: 8 });
        std::fs::write(&file, "new\n").unwrap();
        assert_eq!(piece(&file, 8).unwrap(), LogPiece { text: "new\n".to_owned(), next: 4 });
        std::fs::write(&file, "x".repeat(100_000)).unwrap();
        assert_eq!(piece(&file, 0).unwrap().next, PIECE);
    }
}
