//! A question's bytes in, an answer's bytes out (RFC 1035, RFC 6891).

use hickory_proto::op::{Edns, Message, MessageType, Metadata, OpCode, Query, ResponseCode};
use hickory_proto::rr::rdata::{A, PTR, SOA};
use hickory_proto::rr::{DNSClass, Name, RData, Record, RecordType};

use super::names::Meaning;

/// How long an answer may be kept, in seconds: what the VPC's resolver says of its own names.
const TTL: u32 = 60;
/// Bytes of an answer over UDP to somebody who has not said that he takes more.
const PLAIN_UDP: usize = 512;
/// Most bytes of an answer over UDP, whatever somebody takes.
const MOST_UDP: u16 = 4096;

/// What a question came by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Transport {
    Udp,
    Tcp,
}

/// What is known about a name: what it means, and which zone says what it does not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Known {
    pub(super) meaning: Meaning,
    /// Empty: the root.
    pub(super) zone: String,
}

/// The answer to a message, if it is a question at all; what is malformed gets none. `look` is asked for the name in small letters,
/// without the last dot.
pub(super) fn answer(bytes: &[u8], transport: Transport, look: impl FnOnce(&str) -> Known) -> Option<Vec<u8>> {
    let question = Message::from_vec(bytes).ok()?;
    if question.metadata.message_type != MessageType::Query {
        return None;
    }
    let mut answer = Message::response(question.metadata.id, question.metadata.op_code);
    answer.metadata = Metadata::response_from_request(&question.metadata);
    answer.metadata.recursion_available = true;
    answer.add_queries(question.queries.iter().cloned());
    if question.edns.is_some() {
        answer.set_edns(Edns::default()).edns.iter_mut().for_each(|edns| _ = edns.set_max_payload(MOST_UDP));
    }
    answer.metadata.response_code = match question.queries.as_slice() {
        _ if question.version() > 0 => ResponseCode::BADVERS,
        _ if question.metadata.op_code != OpCode::Query => ResponseCode::NotImp,
        [query] => fill(&mut answer, query, look),
        _ => ResponseCode::FormErr,
    };
    let encoded = answer.to_vec().ok()?;
    let room = match transport {
        Transport::Tcp => usize::from(u16::MAX),
        Transport::Udp => usize::from(question.max_payload().min(MOST_UDP)).max(PLAIN_UDP),
    };
    if encoded.len() <= room { Some(encoded) } else { answer.truncate().to_vec().ok() }
}

fn fill(answer: &mut Message, query: &Query, look: impl FnOnce(&str) -> Known) -> ResponseCode {
    let kind = query.query_type();
    if query.query_class() != DNSClass::IN || matches!(kind, RecordType::AXFR | RecordType::IXFR) {
        return ResponseCode::Refused;
    }
    let Known { meaning, zone } = look(&plain(query.name()));
    let wanted = |of: RecordType| kind == of || kind == RecordType::ANY;
    let records: Vec<_> = match &meaning {
        Meaning::Addresses(all) if wanted(RecordType::A) => all.iter().map(|address| RData::A(A(*address))).collect(),
        Meaning::Pointer(name) if wanted(RecordType::PTR) => {
            absolute(name).map(|name| RData::PTR(PTR(name))).into_iter().collect()
        }
        _ => Vec::new(),
    };
    let apex = kind == RecordType::SOA && plain(query.name()) == zone;
    if records.is_empty() {
        let authority = authority(&zone);
        if apex {
            answer.add_answers(authority)
        } else {
            answer.add_authorities(authority)
        };
    }
    answer.add_answers(records.into_iter().map(|data| Record::from_rdata(query.name().clone(), TTL, data)));
    if meaning == Meaning::Nothing { ResponseCode::NXDomain } else { ResponseCode::NoError }
}

/// A name in small letters, without the last dot.
fn plain(name: &Name) -> String {
    let mut text = name.to_ascii().to_ascii_lowercase();
    text.truncate(text.trim_end_matches('.').len());
    text
}

fn absolute(name: &str) -> Option<Name> {
    Name::from_ascii(format!("{name}.")).ok()
}

/// Who says that there is nothing: the zone's start of authority, as the VPC's resolver and the root have theirs.
fn authority(zone: &str) -> Option<Record> {
    let (server, mailbox) = match zone {
        "" => ("a.root-servers.net".to_owned(), "nstld.verisign-grs.com"),
        zone => (format!("ns0.{zone}"), "hostmaster.amazon.com"),
    };
    let soa = SOA::new(absolute(&server)?, absolute(mailbox)?, 2_012_103_100, 3600, 3600, 3600, TTL);
    Some(Record::from_rdata(absolute(zone)?, TTL, RData::SOA(soa)))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    fn question(name: &str, kind: RecordType) -> Message {
        let mut message = Message::new(7, MessageType::Query, OpCode::Query);
        message.metadata.recursion_desired = true;
        message.add_query(Query::query(Name::from_ascii(name).unwrap(), kind));
        message
    }

    fn ask(message: &Message, transport: Transport, meaning: Meaning) -> Message {
        let known = Known { meaning, zone: "zone.internal".to_owned() };
        let bytes = answer(&message.to_vec().unwrap(), transport, |_| known).unwrap();
        Message::from_vec(&bytes).unwrap()
    }

    fn many(count: u32) -> Meaning {
        Meaning::Addresses((0..count).map(|n| Ipv4Addr::from_bits(0x0a00_0000 + n)).collect())
    }

    #[test]
    fn a_name_is_looked_up_in_small_letters_and_answered_as_it_was_asked() {
        let message = question("Host-1.EXAMPLE.com.", RecordType::A);
        let look = |name: &str| {
            assert_eq!(name, "host-1.example.com");
            Known { meaning: many(1), zone: String::new() }
        };
        let bytes = answer(&message.to_vec().unwrap(), Transport::Udp, look).unwrap();
        let answer = Message::from_vec(&bytes).unwrap();
        assert_eq!(answer.metadata.id, 7);
        assert!(answer.metadata.recursion_desired && answer.metadata.recursion_available);
        assert!(answer.answers[0].name.eq_case(message.queries[0].name()), "{answer}");
        assert_eq!(answer.answers[0].data, RData::A(A(Ipv4Addr::new(10, 0, 0, 0))));
    }

    #[test]
    fn what_is_not_there_is_said_by_a_zone() {
        let nothing = ask(&question("x.zone.internal.", RecordType::A), Transport::Udp, Meaning::Nothing);
        assert_eq!(nothing.metadata.response_code, ResponseCode::NXDomain);
        let no_ipv6 = ask(&question("x.zone.internal.", RecordType::AAAA), Transport::Udp, many(1));
        assert_eq!(no_ipv6.metadata.response_code, ResponseCode::NoError);
        for answer in [nothing, no_ipv6] {
            assert!(answer.answers.is_empty());
            let [soa] = &answer.authorities[..] else { panic!("{answer}") };
            assert_eq!((soa.name.to_ascii(), soa.record_type()), ("zone.internal.".to_owned(), RecordType::SOA));
        }
        let apex = ask(&question("zone.internal.", RecordType::SOA), Transport::Udp, Meaning::Empty);
        assert_eq!(apex.answers[0].record_type(), RecordType::SOA);
    }

    #[test]
    fn what_does_not_fit_is_cut_off_and_comes_whole_over_tcp() {
        let plain = question("many.example.com.", RecordType::A);
        let cut = ask(&plain, Transport::Udp, many(40));
        assert!(cut.metadata.truncation && cut.answers.is_empty());
        let whole = ask(&plain, Transport::Tcp, many(400));
        assert!(!whole.metadata.truncation && whole.answers.len() == 400);
        let mut more = plain.clone();
        more.set_edns(Edns::default()).edns.iter_mut().for_each(|edns| _ = edns.set_max_payload(1232));
        let fits = ask(&more, Transport::Udp, many(40));
        assert!(!fits.metadata.truncation && fits.answers.len() == 40 && fits.edns.is_some());
    }

    #[test]
    fn no_question_no_answer() {
        let look = |_: &str| panic!("nobody was asked for");
        let response = Message::response(7, OpCode::Query).to_vec().unwrap();
        let whole = question("x.example.com.", RecordType::A).to_vec().unwrap();
        for bytes in [&b""[..], b"\0", &[0xff; 40], &response, &whole[..whole.len() - 3]] {
            assert_eq!(answer(bytes, Transport::Udp, look), None, "{bytes:?}");
        }
        let status = Message::new(7, MessageType::Query, OpCode::Status).to_vec().unwrap();
        let refused = Message::from_vec(&answer(&status, Transport::Udp, look).unwrap()).unwrap();
        assert_eq!(refused.metadata.response_code, ResponseCode::NotImp);
    }
}
