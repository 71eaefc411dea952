//! What a server may do that the usual ones do not, octet by octet.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::os::unix::net::UnixListener;
use std::thread::JoinHandle;

use super::*;

const SOON: Duration = Duration::from_secs(5);

/// A frame that was heard: kind, flags, stream, payload.
type Heard = (Kind, u8, u32, Vec<u8>);

/// A server that takes one connection, reads until the request has ended, and says its words; then it reads on to the end, and gives all
/// frames that came.
struct Talker {
    _folder: tempfile::TempDir,
    path: std::path::PathBuf,
    heard: JoinHandle<Vec<Heard>>,
}

impl Talker {
    fn saying(words: Vec<u8>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        let listener = UnixListener::bind(&path).unwrap();
        let heard = std::thread::spawn(move || {
            let (mut socket, _) = listener.accept().unwrap();
            let mut come = Vec::new();
            let mut said = false;
            loop {
                let mut buffer = [0; 4096];
                let length = socket.read(&mut buffer).unwrap();
                come.extend_from_slice(&buffer[..length]);
                let frames = frames(&come);
                if !said && frames.iter().any(|(kind, flags, ..)| *kind == Kind::Data && flags & END_STREAM != 0) {
                    socket.write_all(&words).unwrap();
                    said = true;
                }
                if length == 0 {
                    return frames;
                }
            }
        });
        Self { _folder: folder, path, heard }
    }

    fn ask(&self, message: &[u8]) -> Result<Answer, Failure> {
        Connection::open(&self.path, SOON).unwrap().unary("/a.B/C", message, Instant::now() + SOON)
    }
}

fn frames(come: &[u8]) -> Vec<Heard> {
    let mut rest = come.strip_prefix(PREFACE).unwrap_or_default();
    let mut all = Vec::new();
    while let Ok(Some(frame)) = Frame::first(rest) {
        all.push((frame.kind, frame.flags, frame.stream, frame.payload.to_vec()));
        rest = &rest[frame::HEADER + frame.payload.len()..];
    }
    all
}

fn block(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut block = Vec::new();
    fields.iter().for_each(|(name, value)| hpack::encode(&mut block, name, value));
    block
}

/// A whole answer with that message: settings, header fields, data, trailers.
fn answer(message: &[u8], status: &str) -> Vec<u8> {
    let mut out = Vec::new();
    frame::put(&mut out, Kind::Settings, 0, 0, &[0, 4, 0, 0, 0, 1]);
    let fields = block(&[(":status", "200"), ("content-type", "application/grpc")]);
    frame::put(&mut out, Kind::Headers, END_HEADERS, 1, &fields);
    frame::put(&mut out, Kind::Data, 0, 1, message);
    frame::put(&mut out, Kind::Headers, END_HEADERS | END_STREAM, 1, &block(&[("grpc-status", status)]));
    out
}

fn message(text: &[u8]) -> Vec<u8> {
    [&[0][..], &(text.len() as u32).to_be_bytes(), text].concat()
}

#[test]
fn the_request_is_what_the_standard_wants() {
    let talker = Talker::saying(answer(&message(b"yes"), "0"));
    assert_eq!(talker.ask(b"question").unwrap().message, b"yes");
    let heard = talker.heard.join().unwrap();
    let kinds: Vec<_> = heard.iter().map(|(kind, flags, stream, _)| (*kind, *flags, *stream)).collect();
    assert_eq!(kinds[..3], [(Kind::Settings, 0, 0), (Kind::Headers, END_HEADERS, 1), (Kind::Data, END_STREAM, 1)]);
    let fields = Decoder::default().block(&heard[1].3).unwrap();
    let text: Vec<String> = fields
        .iter()
        .map(|(name, value)| format!("{} {}", String::from_utf8_lossy(name), String::from_utf8_lossy(value)))
        .collect();
    assert_eq!(
        text[..6],
        [
            ":method POST",
            ":scheme http",
            ":path /a.B/C",
            ":authority localhost",
            "te trailers",
            "content-type application/grpc"
        ]
    );
    assert!(text[7].starts_with("grpc-timeout ") && text[7].ends_with('m'), "{text:?}");
    assert_eq!(heard[2].3, message(b"question"));
}

#[test]
fn an_answer_may_come_in_pieces_with_padding_and_words_between() {
    let mut words = Vec::new();
    let fields = block(&[(":status", "200"), ("content-type", "application/grpc+proto")]);
    let (first, second) = fields.split_at(7);
    frame::put(&mut words, Kind::Ping, 0, 0, b"12345678");
    frame::put(&mut words, Kind::Headers, 0, 1, first);
    frame::put(&mut words, Kind::Continuation, END_HEADERS, 1, second);
    frame::put(&mut words, Kind::Other, 0, 1, b"of a later standard");
    let whole = message(b"in two pieces");
    frame::put(&mut words, Kind::Data, 0x8, 1, &[&[3][..], &whole[..9], &[0; 3]].concat());
    // Another call's, given up long ago.
    frame::put(&mut words, Kind::Data, END_STREAM, 77, b"x");
    frame::put(&mut words, Kind::Data, 0, 1, &whole[9..]);
    frame::put(&mut words, Kind::Headers, END_HEADERS | END_STREAM, 1, &block(&[("grpc-status", "0")]));
    let talker = Talker::saying(words);
    assert_eq!(talker.ask(b"").unwrap().message, b"in two pieces");
}

#[test]
fn a_status_without_an_answer_has_its_text_and_details() {
    let mut words = Vec::new();
    let fields = block(&[
        (":status", "200"),
        ("content-type", "application/grpc"),
        ("grpc-status", "14"),
        ("grpc-message", "caf%C3%A9 at 100%25, or 5%"),
        ("grpc-status-details-bin", "AAEC/w"),
    ]);
    frame::put(&mut words, Kind::Headers, END_HEADERS | END_STREAM, 1, &fields);
    let answer = Talker::saying(words).ask(b"x").unwrap();
    assert_eq!((answer.status, answer.text.as_str()), (14, "café at 100%, or 5%"));
    assert_eq!(answer.details, [0, 1, 2, 255]);
}

#[test]
fn what_is_no_answer_is_called_so() {
    let header = |fields: &[(&str, &str)], flags| {
        let mut out = Vec::new();
        frame::put(&mut out, Kind::Headers, END_HEADERS | flags, 1, &block(fields));
        out
    };
    let framed = |kind, stream, payload: &[u8]| {
        let mut out = Vec::new();
        frame::put(&mut out, kind, 0, stream, payload);
        out
    };
    let grpc = ("content-type", "application/grpc");
    for (words, why) in [
        (header(&[(":status", "503")], END_STREAM), "HTTP status 503"),
        (header(&[(":status", "200"), ("content-type", "text/html")], 0), "type text/html"),
        (header(&[(":status", "200"), grpc], END_STREAM), "without a gRPC status"),
        (header(&[(":status", "200"), grpc, ("grpc-status", "fine")], END_STREAM), "gRPC status `fine`"),
        (header(&[(":status", "200"), grpc, ("grpc-status", "0")], END_STREAM), "without a message"),
        (answer(b"\x01\0\0\0\0", "0"), "compressed"),
        (answer(b"\0\0\0\0\x09abc", "0"), "not one message"),
        (framed(Kind::ResetStream, 1, &7_u32.to_be_bytes()), "broken off (HTTP/2 error 7)"),
        (framed(Kind::GoAway, 0, &[0, 0, 0, 0, 0, 0, 0, 11]), "closes the connection (HTTP/2 error 11)"),
        (framed(Kind::PushPromise, 1, &[0; 8]), "a push"),
        (framed(Kind::Continuation, 1, b""), "out of order"),
        (framed(Kind::Headers, 1, &[0x80]), "other frames between"),
        (vec![0xff; 64], "not HTTP/2"),
    ] {
        // Header fields that go on are followed by something else.
        let words = if why.starts_with("other") { [words, framed(Kind::Data, 1, b"x")].concat() } else { words };
        match Talker::saying(words).ask(b"x") {
            Err(Failure::Broken(said)) => assert!(said.contains(why), "`{why}` in `{said}`"),
            other => panic!("{why}: {other:?}"),
        }
    }
}

#[test]
fn base64_is_read_padded_or_not() {
    assert_eq!(base64_decoded(b"Zm9v"), b"foo");
    assert_eq!(base64_decoded(b"Zm8"), b"fo");
    assert_eq!(base64_decoded(b"Zm8="), b"fo");
    assert_eq!(base64_decoded(b"Zg=="), b"f");
    assert_eq!(base64_decoded(b"Z-g"), b"");
}
