//! The plugin's log: one JSON object per line, as the reference writes it, each line in one `write` to a file opened for appending,
//! so that lines of processes that run at once never mix.
//!
//! ```json
//! {"level":"info","ts":"2026-11-21T09:30:00.123Z","caller":"aws-cni","msg":"…","verb":"ADD","container":"…","pod":"default/web-0"}
//! ```
//!
//! Nothing that goes wrong here fails the call. The configuration is never written whole: it holds the pod's annotations.

use std::cell::RefCell;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::{Map, Value};
use vpc_model::{PodRef, SandboxKey};
use vpc_wire::cni::{CniError, Command, LogLevel, NetConf};

use crate::call::Call;

/// Size in bytes from which a file is put aside, and how many of those are kept: the reference's numbers.
const ROTATE_AT: u64 = 100 << 20;
const KEPT: u32 = 5;

/// Where lines go and which of them.
pub(crate) struct Log {
    sink: RefCell<Sink>,
    least: LogLevel,
    /// What every line of this process says.
    about: Map<String, Value>,
}

enum Sink {
    File(File),
    Stderr,
}

impl Log {
    pub(crate) fn open(conf: &NetConf, verb: Command, sandbox: &SandboxKey, pod: &PodRef) -> Self {
        Self::open_about(
            conf,
            &[
                ("verb", verb.as_str().to_owned()),
                ("container", sandbox.container.clone()),
                ("interface", sandbox.interface.clone()),
                ("pod", pod.to_string()),
            ],
        )
    }

    /// For a call about no container.
    pub(crate) fn of_network(conf: &NetConf, verb: Command) -> Self {
        Self::open_about(conf, &[("verb", verb.as_str().to_owned()), ("network", conf.name.clone())])
    }

    fn open_about(conf: &NetConf, about: &[(&str, String)]) -> Self {
        let about = about.iter().cloned();
        let about = about.into_iter().map(|(key, value)| (key.to_owned(), Value::String(value))).collect();
        let (sink, trouble) = match conf.log_file.as_str() {
            "" | "stderr" => (Sink::Stderr, None),
            // There the result goes, and a log line in it would make it unreadable.
            "stdout" => (
                Sink::Stderr,
                Some(
                    "`pluginLogFile` is `stdout`: expected a path, \"stderr\" or \"\"; logging to standard error"
                        .to_owned(),
                ),
            ),
            path => match open(Path::new(path)) {
                Ok(file) => (Sink::File(file), None),
                Err(error) => (
                    Sink::Stderr,
                    Some(format!("`pluginLogFile` {path} can not be written: {error}; logging to standard error")),
                ),
            },
        };
        let log = Self { sink: RefCell::new(sink), least: conf.log_level, about };
        if let Some(trouble) = trouble {
            log.error(&trouble);
        }
        log
    }

    /// The call as it came.
    pub(crate) fn begin(&self, call: &Call) {
        self.info(&format!(
            "{} for network {}, netns {}",
            call.whom(),
            call.sandbox.network,
            call.netns.as_deref().unwrap_or("none")
        ));
        if let Some(text) = &call.conf.mtu.rejected {
            self.error(&format!(
                "`mtu` is `{text}`: expected a decimal number from 576 to 9001; using {}",
                call.conf.mtu.bytes
            ));
        }
        let previous = match &call.conf.prev_result {
            None => "no",
            Some(Ok(_)) => "a",
            Some(Err(_)) => "an unusable",
        };
        self.debug(&format!(
            "configuration: cniVersion {}, vethPrefix `{}`, mtu {}, podSGEnforcingMode {}, {previous} previous result",
            call.conf.version,
            call.conf.veth_prefix.as_str(),
            call.conf.mtu.bytes,
            call.conf.enforcing_mode,
        ));
    }

    /// The call as it ended.
    pub(crate) fn end(&self, outcome: &Result<(), CniError>) {
        match outcome {
            Ok(()) => self.info("done"),
            Err(error) => self.error(&format!("failed with code {}: {error}", error.code as u32)),
        }
    }

    pub(crate) fn debug(&self, msg: &str) {
        self.line(LogLevel::Debug, msg);
    }

    pub(crate) fn info(&self, msg: &str) {
        self.line(LogLevel::Info, msg);
    }

    pub(crate) fn warn(&self, msg: &str) {
        self.line(LogLevel::Warn, msg);
    }

    pub(crate) fn error(&self, msg: &str) {
        self.line(LogLevel::Error, msg);
    }

    fn line(&self, level: LogLevel, msg: &str) {
        if level < self.least {
            return;
        }
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let line = format_line(level, now, msg, &self.about);
        // A log that can not be written is no reason to leave a pod without a network.
        let _ = match &mut *self.sink.borrow_mut() {
            Sink::File(file) => file.write_all(line.as_bytes()),
            Sink::Stderr => io::stderr().write_all(line.as_bytes()),
        };
    }
}

fn format_line(level: LogLevel, since_epoch: Duration, msg: &str, about: &Map<String, Value>) -> String {
    let text = |text: &str| Value::String(text.to_owned()).to_string();
    let mut line = format!(
        "{{\"level\":\"{level}\",\"ts\":\"{}\",\"caller\":\"aws-cni\",\"msg\":{}",
        timestamp(since_epoch),
        text(msg)
    );
    for (key, value) in about {
        line.push_str(&format!(",{}:{value}", text(key)));
    }
    line.push_str("}\n");
    line
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
    let append = || OpenOptions::new().append(true).create(true).open(path);
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
    use std::os::unix::fs::MetadataExt as _;
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
        let about = Map::from_iter([("pod".to_owned(), Value::String("a\"b".to_owned()))]);
        let line = format_line(LogLevel::Warn, Duration::ZERO, "x\ny \"z\"", &about);
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
}
