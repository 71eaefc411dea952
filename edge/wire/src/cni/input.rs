//! Standard input of a plugin: read to its end, within a time.

use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::unistd::read;
use serde::de::IgnoredAny;

use super::{CniError, ErrorCode};

/// Most bytes taken. Kubernetes allows 256 KiB of annotations (`TotalAnnotationSizeLimitB`), at most six times as many as JSON writes
/// them; a previous result has a few kilobytes.
const MOST: usize = 2 << 20;

/// Reads what a runtime writes, until it closes its end. Runtimes do so at once; one that forgets to is not waited for for ever: when
/// nothing more has come for a tenth of `within` and what is there is a whole document, that is it.
///
/// # Errors
/// Code 5: it can not be read, or it holds no whole document after `within`. Code 6: it has more than 2 MiB.
pub fn read_input(from: impl AsFd, within: Duration) -> Result<Vec<u8>, CniError> {
    let begin = Instant::now();
    let mut input = vec![0; 16 << 10];
    let mut length = 0;
    loop {
        if !has_more(&from, within / 10)? {
            if is_whole(&input[..length]) {
                break;
            }
            if begin.elapsed() >= within {
                return Err(unclosed(length, within));
            }
            continue;
        }
        if length == input.len() {
            input.resize(2 * length, 0);
        }
        match read(&from, &mut input[length..]) {
            Ok(0) => break,
            Ok(more) => length += more,
            Err(Errno::EINTR | Errno::EAGAIN) => {}
            Err(errno) => return Err(unreadable(errno)),
        }
        if length > MOST {
            return Err(CniError::new(ErrorCode::Decode, format!("standard input has more than {} MiB", MOST >> 20)));
        }
    }
    input.truncate(length);
    Ok(input)
}

/// Whether something is there to be read, the end included, within a time.
fn has_more(from: &impl AsFd, within: Duration) -> Result<bool, CniError> {
    let mut polled = [PollFd::new(from.as_fd(), PollFlags::POLLIN)];
    let timeout = PollTimeout::try_from(within).unwrap_or(PollTimeout::MAX);
    match poll(&mut polled, timeout) {
        Ok(0) | Err(Errno::EINTR) => Ok(false),
        Ok(_) => Ok(true),
        Err(errno) => Err(unreadable(errno)),
    }
}

fn is_whole(input: &[u8]) -> bool {
    serde_json::from_slice::<IgnoredAny>(input).is_ok()
}

fn unreadable(errno: Errno) -> CniError {
    CniError::new(ErrorCode::Io, format!("standard input can not be read: {}", errno.desc()))
}

fn unclosed(length: usize, within: Duration) -> CniError {
    let after = within.as_secs_f32();
    let msg = format!(
        "standard input is still open after {after} s and its {length} bytes are no whole document: expected the plugin's configuration \
         as a JSON object, then the end"
    );
    CniError::new(ErrorCode::Io, msg)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::io::Write as _;

    use super::*;

    const SOON: Duration = Duration::from_millis(200);

    #[test]
    fn all_of_it_is_read_however_it_comes() {
        let text = format!("{{\"name\":\"{}\"}}", "x".repeat(200_000));
        let (reader, mut writer) = std::io::pipe().unwrap();
        let sent = text.clone();
        let sender =
            std::thread::spawn(move || sent.as_bytes().chunks(7001).for_each(|c| writer.write_all(c).unwrap()));
        assert_eq!(read_input(&reader, Duration::from_secs(60)).unwrap(), text.as_bytes());
        sender.join().unwrap();
        assert_eq!(read_input(&reader, SOON).unwrap(), b"", "the end is no document, and no reason to wait");
    }

    #[test]
    fn an_end_that_never_comes_is_not_waited_for() {
        let (reader, mut writer) = std::io::pipe().unwrap();
        let error = read_input(&reader, SOON).unwrap_err();
        assert_eq!(error.code, ErrorCode::Io);
        assert!(error.msg.contains("still open after 0.2 s and its 0 bytes"), "{error}");
        writer.write_all(b"{\"name\":").unwrap();
        assert!(read_input(&reader, SOON).unwrap_err().msg.contains("its 8 bytes"));
        writer.write_all(b"{\"name\":\"n\"}\n").unwrap();
        assert_eq!(read_input(&reader, SOON).unwrap(), b"{\"name\":\"n\"}\n");
    }

    #[test]
    fn more_than_anybody_has_to_say_is_refused() {
        let (reader, mut writer) = std::io::pipe().unwrap();
        // The reader goes away in the middle.
        let sender = std::thread::spawn(move || drop(writer.write_all(&vec![b' '; MOST + 1])));
        let error = read_input(&reader, Duration::from_secs(60)).unwrap_err();
        assert_eq!((error.code, error.msg.as_str()), (ErrorCode::Decode, "standard input has more than 2 MiB"));
        drop(reader);
        sender.join().unwrap();
    }
}
