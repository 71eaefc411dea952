//! A plugin's log: one JSON object per line, as the reference writes it, each line in one `write` to a file opened for appending,
//! so that lines of processes that run at once never mix.
//!
//! ```json
//! {"level":"info","ts":"2026-11-21T09:30:00.123Z","caller":"aws-cni","msg":"…","verb":"ADD","container":"…","pod":"default/web-0"}
//! ```
//!
//! Nothing that goes wrong here fails the call. Whoever else puts the file aside, empties or copies it loses no line that was written
//! before: each process opens it anew, and writes where its end is by then.

use std::cell::RefCell;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::Value;

use super::LogLevel;

/// Size in bytes from which a file is put aside, and how many of those are kept: the reference's numbers.
const ROTATE_AT: u64 = 100 << 20;
const KEPT: u32 = 5;
/// Of a file made here: the reference's.
const MODE: u32 = 0o600;

/// Where lines go and which of them.
pub struct PluginLog {
    sink: RefCell<Sink>,
    least: LogLevel,
    caller: &'static str,
    /// What every line of this process says, as it is written behind the rest.
    about: String,
}

enum Sink {
    /// `torn`: the last line did not fit the disk as a whole.
    File {
        file: File,
        torn: bool,
    },
    Stderr,
}

impl PluginLog {
    /// Opens the file that `pluginLogFile` names (`""` and `stderr` are standard error) for lines of `pluginLogLevel` and above.
    /// `about` is what each of them says besides. What stands in the way is told on standard error, where the lines then go.
    #[must_use]
    pub fn open(path: &str, least: LogLevel, caller: &'static str, about: &[(&str, &str)]) -> Self {
        let is = |name: &str| path.eq_ignore_ascii_case(name);
        let (sink, trouble) = if path.is_empty() || is("stderr") {
            (Sink::Stderr, None)
        } else if is("stdout") {
            (Sink::Stderr, Some(taken(path)))
        } else {
            match open(Path::new(path)) {
                // However it is called: there the result goes.
                Ok(file) if (path.starts_with("/dev/") || path.starts_with("/proc/")) && is_stdout(&file) => {
                    (Sink::Stderr, Some(taken(path)))
                }
                Ok(file) => (Sink::File { file, torn: false }, None),
                Err(error) => (
                    Sink::Stderr,
                    Some(format!("`pluginLogFile` {path} can not be written: {error}; logging to standard error")),
                ),
            }
        };
        let about = about.iter().map(|(key, value)| format!(",{}:{}", text(key), text(value))).collect();
        let log = Self { sink: RefCell::new(sink), least, caller, about };
        if let Some(trouble) = trouble {
            log.error(&trouble);
        }
        log
    }

    /// What helps to understand a call.
    pub fn debug(&self, msg: &str) {
        self.line(LogLevel::Debug, msg);
    }

    /// A call and its outcome.
    pub fn info(&self, msg: &str) {
        self.line(LogLevel::Info, msg);
    }

    /// What was odd and went well.
    pub fn warn(&self, msg: &str) {
        self.line(LogLevel::Warn, msg);
    }

    /// What failed.
    pub fn error(&self, msg: &str) {
        self.line(LogLevel::Error, msg);
    }

    fn line(&self, level: LogLevel, msg: &str) {
        if level < self.least {
            return;
        }
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let line = format_line(level, now, self.caller, msg, &self.about);
        // A log that can not be written is no reason to leave a pod without a network.
        match &mut *self.sink.borrow_mut() {
            Sink::File { file, torn } => append(file, torn, &line),
            Sink::Stderr => drop(io::stderr().write_all(line.as_bytes())),
        }
    }
}

/// One `write` for one line, whatever becomes of it: a second one for the rest could come behind somebody else's line. What a full disk
/// tore off is ended before the next line, if that fits.
fn append(file: &mut File, torn: &mut bool, line: &str) {
    let whole = if *torn { &format!("\n{line}") } else { line };
    // On an error nothing was written.
    if let Ok(written) = file.write(whole.as_bytes()) {
        *torn = written != whole.len() && (*torn || written != 0);
    }
}

fn taken(path: &str) -> String {
    format!(
        "`pluginLogFile` is `{path}`, where the result goes, and a log line in it would make it unreadable: expected a path, \"stderr\" or \"\"; \
         logging to standard error"
    )
}

fn is_stdout(file: &File) -> bool {
    let identity = |metadata: fs::Metadata| (metadata.dev(), metadata.ino());
    let stdout = fs::metadata("/proc/self/fd/1").map(identity);
    matches!((file.metadata().map(identity), stdout), (Ok(own), Ok(stdout)) if own == stdout)
}

fn text(text: &str) -> String {
    Value::String(text.to_owned()).to_string()
}

fn format_line(level: LogLevel, since_epoch: Duration, caller: &str, msg: &str, about: &str) -> String {
    let (ts, msg) = (timestamp(since_epoch), text(msg));
    format!("{{\"level\":\"{level}\",\"ts\":\"{ts}\",\"caller\":\"{caller}\",\"msg\":{msg}{about}}}\n")
}

/// A moment of the calendar, UTC, to the millisecond (ISO 8601). The date by the proleptic Gregorian calendar, counted in eras of
/// 400 years that begin on 1 March, so that the leap day is an era's last.
fn timestamp(since_epoch: Duration) -> String {
    const DAYS_OF_ERA: u64 = 146_097;
    /// Days from 0000-03-01 to 1970-01-01.
    const EPOCH: u64 = 719_468;
    let seconds = since_epoch.as_secs();
    let days = seconds / 86_400 + EPOCH;
    let (era, day) = (days / DAYS_OF_ERA, days % DAYS_OF_ERA);
    let year_of_era = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day_of_year = day - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    let (hour, minute, second) = (seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{:03}Z", since_epoch.subsec_millis())
}

fn open(path: &Path) -> io::Result<File> {
    // A FIFO nobody reads, or reads slowly, must not keep a pod.
    let append = || {
        OpenOptions::new()
            .append(true)
            .create(true)
            .mode(MODE)
            .custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY)
            .open(path)
    };
    let file = append().or_else(|error| match (error.kind(), path.parent()) {
        (io::ErrorKind::NotFound, Some(folder)) => fs::create_dir_all(folder).and_then(|()| append()),
        _ => Err(error),
    })?;
    if !file.metadata().is_ok_and(|metadata| metadata.is_file() && metadata.len() >= ROTATE_AT) {
        return Ok(file);
    }
    rotate(path, &file);
    append()
}

/// Puts a full file aside as `<path>.1`, older ones as `.2` to `.5`. Only one process does it: the one that holds the full file's lock
/// while it still stands at the path. Whatever fails, the log goes on in the file there is.
fn rotate(path: &Path, full: &File) {
    let identity = |metadata: &fs::Metadata| (metadata.dev(), metadata.ino());
    if full.try_lock().is_err() {
        return;
    }
    let still_there = match (full.metadata(), fs::metadata(path)) {
        (Ok(own), Ok(there)) => identity(&own) == identity(&there),
        _ => false,
    };
    if !still_there {
        return;
    }
    let numbered = |n: u32| {
        let mut name = path.as_os_str().to_owned();
        name.push(format!(".{n}"));
        name
    };
    for n in (1..KEPT).rev() {
        // Most often there is none of that number.
        let _ = fs::rename(numbered(n), numbered(n + 1));
    }
    let _ = fs::rename(path, numbered(1));
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_written_as_the_calendar_has_them() {
        // Checked with `date -u -d @N`.
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_399, "2000-02-28T23:59:59.000Z"),
            (951_868_799, "2000-02-29T23:59:59.000Z"),
            (951_868_800, "2000-03-01T00:00:00.000Z"),
            (1_709_210_096, "2024-02-29T12:34:56.000Z"),
            (1_795_253_400, "2026-11-21T09:30:00.000Z"),
            (4_102_444_799, "2099-12-31T23:59:59.000Z"),
            (4_107_542_400, "2100-03-01T00:00:00.000Z"),
        ] {
            assert_eq!(timestamp(Duration::from_secs(seconds)), text);
        }
        assert_eq!(timestamp(Duration::from_millis(7)), "1970-01-01T00:00:00.007Z");
    }

    #[test]
    fn a_line_is_one_json_object_whatever_it_says() {
        let about = format!(",\"pod\":{}", text("a\"b"));
        let line = format_line(LogLevel::Warn, Duration::ZERO, "aws-cni", "x\ny \"z\"", &about);
        assert_eq!(line.matches('\n').count(), 1);
        let value: Value = serde_json::from_str(&line).unwrap();
        assert_eq!(
            (&value["level"], &value["msg"], &value["pod"]),
            (&"warn".into(), &"x\ny \"z\"".into(), &"a\"b".into())
        );
    }

    #[test]
    fn a_full_file_is_put_aside_once_and_the_oldest_goes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("plugin.log");
        for round in 1..=7_u8 {
            let file = File::create(&path).unwrap();
            file.set_len(ROTATE_AT + u64::from(round)).unwrap();
            drop(open(&path).unwrap());
            assert_eq!(fs::metadata(&path).unwrap().len(), 0, "round {round}");
        }
        let mut sizes: Vec<_> = fs::read_dir(folder.path())
            .unwrap()
            .map(|entry| entry.unwrap().metadata().unwrap().len().saturating_sub(ROTATE_AT))
            .collect();
        sizes.sort_unstable();
        assert_eq!(sizes, [0, 3, 4, 5, 6, 7]);
        // A process that still holds a file already put aside puts nothing aside.
        let aside = File::options().append(true).open(folder.path().join("plugin.log.1")).unwrap();
        rotate(&path, &aside);
        assert_eq!(fs::metadata(&path).unwrap().len(), 0);
    }

    #[test]
    fn a_missing_folder_is_made() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a/b/plugin.log");
        drop(open(&path).unwrap());
        assert!(path.is_file());
    }

    #[test]
    fn what_a_full_disk_tore_off_is_ended_before_the_next_line() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("plugin.log");
        let (mut file, mut torn) = (open(&path).unwrap(), false);
        append(&mut file, &mut torn, "{}\n");
        assert!(!torn);
        // As after a write that got as far as this.
        file.write_all(b"{\"half").unwrap();
        torn = true;
        append(&mut file, &mut torn, "{}\n");
        assert!(!torn);
        assert_eq!(fs::read_to_string(&path).unwrap(), "{}\n{\"half\n{}\n");
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, MODE);
        let (mut full, mut torn) = (open("/dev/full".as_ref()).unwrap(), false);
        append(&mut full, &mut torn, "{}\n");
        assert!(!torn, "nothing of it was written");
    }
}
