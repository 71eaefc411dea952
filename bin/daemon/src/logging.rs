//! The daemon's log: one JSON object per line, with the keys the reference's lines have.
//!
//! ```text
//!   tracing event --JsonLines--> {"level":…,"ts":…,"caller":…,"msg":…, fields} --Output--> stdout, stderr or a file that is turned over
//! ```

mod rotate;

use std::fmt::{self, Write as _};
use std::io::{self, Write};
use std::sync::Mutex;

use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::{SubscriberInitExt as _, TryInitError};

use crate::clock;
use crate::settings::{LogLevel, LogSettings, LogTo};
use rotate::Rotating;

/// Starts logging for the whole process. A file that can not be written does not stop the daemon: it logs to standard error then,
/// and says why.
///
/// # Errors
/// Logging was started before.
pub fn start(settings: &LogSettings) -> Result<(), TryInitError> {
    let (output, trouble) = Output::open(&settings.to);
    let level = filter(settings.level);
    // Libraries speak up only when something is wrong: their debug lines would drown ours at the default level.
    let libraries = level.min(LevelFilter::WARN);
    let ours = Targets::new().with_default(libraries).with_target("aws_k8s_agent", level).with_target("vpc_", level);
    let lines = tracing_subscriber::fmt::layer().event_format(JsonLines).with_writer(Mutex::new(output));
    tracing_subscriber::registry().with(ours).with(lines).try_init()?;
    if let Some(error) = trouble {
        tracing::error!("the log file can not be written, logging to stderr: {error}");
    }
    Ok(())
}

fn filter(level: LogLevel) -> LevelFilter {
    match level {
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Error => LevelFilter::ERROR,
        // The one fatal line goes to standard error by itself.
        LogLevel::Fatal => LevelFilter::OFF,
    }
}

enum Output {
    Stdout(io::Stdout),
    Stderr(io::Stderr),
    File(Rotating),
}

impl Output {
    fn open(to: &LogTo) -> (Self, Option<io::Error>) {
        match to {
            LogTo::Stdout => (Self::Stdout(io::stdout()), None),
            LogTo::Stderr => (Self::Stderr(io::stderr()), None),
            LogTo::File(path) => match Rotating::open(path) {
                Ok(file) => (Self::File(file), None),
                Err(error) => (Self::Stderr(io::stderr()), Some(error)),
            },
        }
    }

    fn inner(&mut self) -> &mut dyn Write {
        match self {
            Self::Stdout(stream) => stream,
            Self::Stderr(stream) => stream,
            Self::File(file) => file,
        }
    }
}

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.inner().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner().flush()
    }
}

/// Formats events as the reference's log lines.
struct JsonLines;

impl<S, N> FormatEvent<S, N> for JsonLines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, _: &FmtContext<'_, S, N>, mut writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let mut found = Fields::default();
        event.record(&mut found);
        let meta = event.metadata();
        let level = match *meta.level() {
            Level::ERROR => "error",
            Level::WARN => "warn",
            Level::INFO => "info",
            Level::DEBUG | Level::TRACE => "debug",
        };
        let (message, ts) = (quoted(&found.message), clock::utc());
        write!(writer, "{{\"level\":\"{level}\",\"ts\":\"{ts}\",\"caller\":\"")?;
        write_caller(&mut writer, meta.file().unwrap_or_default(), meta.line().unwrap_or_default())?;
        writeln!(writer, "\",\"msg\":{message}{}}}", found.others)
    }
}

/// The crate's folder and the file, as Go's loggers shorten it: `daemon/shell.rs:12`.
fn write_caller(writer: &mut Writer<'_>, file: &str, line: u32) -> fmt::Result {
    let mut parts = file.rsplit('/').filter(|part| *part != "src");
    match (parts.next(), parts.next()) {
        (Some(name), Some(folder)) => write!(writer, "{folder}/{name}:{line}"),
        (name, _) => write!(writer, "{}:{line}", name.unwrap_or_default()),
    }
}

/// Text as a JSON string.
fn quoted(text: &str) -> String {
    // A text is always a JSON string.
    serde_json::to_string(text).unwrap_or_default()
}

/// An event's message, and its other fields as JSON, each after a comma.
#[derive(Default)]
struct Fields {
    message: String,
    others: String,
}

impl Fields {
    fn put(&mut self, field: &Field, json: impl fmt::Display) {
        // Keys of the line itself are not a field's to take.
        let mark = if matches!(field.name(), "level" | "ts" | "caller" | "msg") { "_" } else { "" };
        // Writing into a text does not fail.
        let _ = write!(self.others, ",\"{}{mark}\":{json}", field.name());
    }
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if field.name() == "message" {
            self.message = format!("{value:?}");
        } else {
            self.put(field, quoted(&format!("{value:?}")));
        }
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "message" {
            value.clone_into(&mut self.message);
        } else {
            self.put(field, quoted(value));
        }
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field, value);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field, value);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field, value);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use std::sync::Arc;

    use serde_json::Value;

    use super::*;

    #[derive(Clone, Default)]
    struct Paper(Arc<Mutex<Vec<u8>>>);

    impl Write for Paper {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_line_has_the_reference_s_keys_first_and_then_the_fields() {
        let paper = Paper::default();
        let lines = tracing_subscriber::fmt::layer().event_format(JsonLines).with_writer(Mutex::new(paper.clone()));
        tracing::subscriber::with_default(tracing_subscriber::registry().with(lines), || {
            tracing::warn!(pods = 3, level = "own", "pool is \"low\"");
        });
        let text = String::from_utf8(paper.0.lock().unwrap().clone()).unwrap();
        assert!(text.starts_with("{\"level\":\"warn\",\"ts\":\"20") && text.ends_with("}\n"), "{text}");
        let line: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(line["msg"], "pool is \"low\"");
        assert_eq!((&line["pods"], &line["level_"]), (&3.into(), &"own".into()));
        assert!(line["caller"].as_str().unwrap().starts_with("daemon/logging.rs:"), "{text}");
    }
}
