//! DNS messages: one question for both families of addresses, and what the answers mean.

use std::future::Future;
use std::net::IpAddr;
use std::time::Duration;

use hickory_resolver::proto::op::{Message, MessageType, OpCode, Query, ResponseCode};
use hickory_resolver::proto::rr::{Name, RecordType};

use crate::net::deadline::within;

/// Wait for IPv6 addresses once there are IPv4 addresses (RFC 8305 §3, "resolution delay").
const IPV6_DELAY: Duration = Duration::from_millis(50);

/// Wait for IPv4 addresses, which are preferred, once there are IPv6 addresses: a lost datagram
/// is repeated within it.
const IPV4_DELAY: Duration = Duration::from_millis(1200);

/// Addresses that are taken from one answer.
const MAX_ADDRESSES: usize = 8;

/// What one server answered about a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Answer {
    /// IPv4 first; never empty.
    Addresses {
        addresses: Vec<IpAddr>,
        ttl: Duration,
    },
    NoSuchName,
    /// The name exists and has no address.
    NoAddress,
}

/// The answer to the question for one family.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Reply {
    Answer(Answer),
    Failed(String),
}

/// For which addresses a question asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Family {
    V4,
    V6,
}

impl Family {
    /// The preferred one first.
    pub(super) const BOTH: [Self; 2] = [Self::V4, Self::V6];

    pub(super) const fn record_type(self) -> RecordType {
        match self {
            Self::V4 => RecordType::A,
            Self::V6 => RecordType::AAAA,
        }
    }

    pub(super) fn of(record_type: RecordType) -> Option<Self> {
        Self::BOTH.into_iter().find(|family| family.record_type() == record_type)
    }
}

/// The two messages that ask for the addresses of a name.
#[derive(Debug, Clone)]
pub(super) struct Question {
    name: Name,
    ids: [u16; 2],
}

impl Question {
    /// With numbers that nobody can guess who does not see the question.
    pub(super) fn new(name: &Name) -> Self {
        let random = getrandom::u32().unwrap_or_default();
        let (a, b) = ((random >> 16) as u16, random as u16);
        // The answers are told apart by them.
        Self { name: name.clone(), ids: [a, if a == b { !b } else { b }] }
    }

    /// As RFC 8484 §4.1 wants it for HTTP: the number is 0, the order tells the answers apart.
    pub(super) fn for_https(name: &Name) -> Self {
        Self { name: name.clone(), ids: [0, 0] }
    }

    /// A, then AAAA.
    pub(super) fn messages(&self) -> [Vec<u8>; 2] {
        Family::BOTH.map(|family| {
            let id = self.ids[family as usize];
            let mut message = Message::new(id, MessageType::Query, OpCode::Query);
            message.metadata.recursion_desired = true;
            message.add_query(Query::query(self.name.clone(), family.record_type()));
            // A question of a name that was parsed always has a wire form.
            message.to_vec().unwrap_or_default()
        })
    }

    /// What `bytes` answer. `None`: not an answer to this.
    fn read(&self, bytes: &[u8]) -> Option<(Family, Reply)> {
        let message = Message::from_vec(bytes).ok()?;
        let metadata = &message.metadata;
        let [asked] = &message.queries[..] else { return None };
        let family = Family::of(asked.query_type())?;
        let id = self.ids[family as usize];
        // Names are compared without regard to case.
        let ours =
            metadata.message_type == MessageType::Response && metadata.id == id && *asked.name() == self.name;
        ours.then(|| (family, reply(&message, family)))
    }
}

pub(super) fn reply(message: &Message, family: Family) -> Reply {
    match message.metadata.response_code {
        ResponseCode::NoError => {}
        ResponseCode::NXDomain => return Reply::Answer(Answer::NoSuchName),
        code => return Reply::Failed(format!("answered \"{code}\"")),
    }
    let ttl = message.answers.iter().map(|record| record.ttl).min().unwrap_or_default();
    let found = message.answers.iter().filter_map(|record| record.data.ip_addr());
    let addresses: Vec<_> =
        found.filter(|ip| ip.is_ipv4() == (family == Family::V4)).take(MAX_ADDRESSES).collect();
    Reply::Answer(if addresses.is_empty() {
        Answer::NoAddress
    } else {
        Answer::Addresses { addresses, ttl: Duration::from_secs(ttl.into()) }
    })
}

/// Where messages of a server come from.
pub(super) trait Source {
    /// The next message. `Err` says why none will follow.
    fn next(&mut self) -> impl Future<Output = Result<Vec<u8>, String>> + Send;
}

/// Reads messages until the question is answered. Whoever calls sets the limit.
pub(super) async fn gather(question: &Question, source: &mut impl Source) -> Result<Answer, String> {
    let mut replies = Replies::default();
    loop {
        let next = match replies.patience() {
            Patience::Enough => None,
            Patience::AtMost(limit) => within(limit, source.next()).await,
            Patience::NoEnd => Some(source.next().await),
        };
        match next {
            None => break,
            Some(Ok(bytes)) => {
                // Anything else is not for us: a late answer to somebody else, or a forgery.
                if let Some((family, reply)) = question.read(&bytes) {
                    replies.take(family, reply);
                }
            }
            Some(Err(reason)) => return replies.conclude().map_err(|_| reason),
        }
    }
    replies.conclude()
}

#[derive(Debug, Clone, Default)]
pub(super) struct Replies {
    v4: Option<Reply>,
    v6: Option<Reply>,
}

/// How long the reply that is still missing is worth waiting for.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Patience {
    Enough,
    AtMost(Duration),
    NoEnd,
}

impl Replies {
    pub(super) fn take(&mut self, family: Family, reply: Reply) {
        match family {
            Family::V4 => self.v4.get_or_insert(reply),
            Family::V6 => self.v6.get_or_insert(reply),
        };
    }

    pub(super) fn patience(&self) -> Patience {
        use Answer::{Addresses, NoSuchName};
        match (&self.v4, &self.v6) {
            (Some(_), Some(_)) | (Some(Reply::Answer(NoSuchName)), None) => Patience::Enough,
            (Some(Reply::Answer(Addresses { .. }) | Reply::Failed(_)), None) => Patience::AtMost(IPV6_DELAY),
            (None, Some(Reply::Answer(Addresses { .. }))) => Patience::AtMost(IPV4_DELAY),
            _ => Patience::NoEnd,
        }
    }

    pub(super) fn conclude(self) -> Result<Answer, String> {
        let mut failure = None;
        let mut all = Vec::new();
        let mut least = Duration::MAX;
        let mut denied = false;
        let mut empty = false;
        for reply in [self.v4, self.v6].into_iter().flatten() {
            match reply {
                Reply::Answer(Answer::Addresses { addresses, ttl }) => {
                    all.extend(addresses);
                    least = least.min(ttl);
                }
                // Some servers deny a name of which they know addresses of the other family only.
                Reply::Answer(Answer::NoSuchName) => denied = true,
                Reply::Answer(Answer::NoAddress) => empty = true,
                Reply::Failed(reason) => failure = failure.or(Some(reason)),
            }
        }
        match failure {
            _ if !all.is_empty() => Ok(Answer::Addresses { addresses: all, ttl: least }),
            Some(reason) => Err(reason),
            None if denied && !empty => Ok(Answer::NoSuchName),
            None if denied || empty => Ok(Answer::NoAddress),
            None => Err("gave no answer".into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hickory_resolver::proto::rr::rdata::{A, AAAA};
    use hickory_resolver::proto::rr::{RData, Record};

    fn question() -> Question {
        Question::new(&Name::from_ascii("web.example.com.").unwrap())
    }

    fn answer(query: &[u8], data: &[RData]) -> Message {
        let query = Message::from_vec(query).unwrap();
        let mut message = Message::new(query.metadata.id, MessageType::Response, OpCode::Query);
        let name = query.queries[0].name().clone();
        message.add_query(query.queries[0].clone());
        for data in data {
            message.add_answer(Record::from_rdata(name.clone(), 60, data.clone()));
        }
        message
    }

    #[test]
    fn only_the_answer_to_this_very_question_is_taken() {
        let question = question();
        let [a, aaaa] = question.messages();
        let v4 = RData::A(A::new(157, 240, 1, 60));
        let good = answer(&a, std::slice::from_ref(&v4));
        let (family, reply) = question.read(&good.to_vec().unwrap()).unwrap();
        let expected = Answer::Addresses {
            addresses: vec!["157.240.1.60".parse().unwrap()],
            ttl: Duration::from_secs(60),
        };
        assert_eq!((family, reply), (Family::V4, Reply::Answer(expected)));
        // A record of the other family answers nothing.
        let (family, reply) = question.read(&answer(&aaaa, &[v4]).to_vec().unwrap()).unwrap();
        assert_eq!((family, reply), (Family::V6, Reply::Answer(Answer::NoAddress)));

        assert_eq!(question.read(&a), None, "the question itself");
        let mut wrong = good.clone();
        wrong.metadata.id ^= 1;
        assert_eq!(question.read(&wrong.to_vec().unwrap()), None, "another number");
        let mut wrong = good.clone();
        wrong.queries[0].set_name(Name::from_ascii("other.example.com.").unwrap());
        assert_eq!(question.read(&wrong.to_vec().unwrap()), None, "another name");
        let mut wrong = good;
        wrong.queries.clear();
        assert_eq!(question.read(&wrong.to_vec().unwrap()), None, "no question");
    }

    #[test]
    fn ipv4_comes_first_and_neither_family_keeps_the_other_waiting_for_long() {
        let v4 =
            Answer::Addresses { addresses: vec!["1.2.3.4".parse().unwrap()], ttl: Duration::from_secs(9) };
        let v6 =
            Answer::Addresses { addresses: vec!["2a00::1".parse().unwrap()], ttl: Duration::from_secs(5) };
        let mut replies = Replies::default();
        assert_eq!(replies.patience(), Patience::NoEnd);
        replies.take(Family::V6, Reply::Answer(v6));
        assert_eq!(replies.patience(), Patience::AtMost(IPV4_DELAY));
        replies.take(Family::V4, Reply::Answer(v4));
        assert_eq!(replies.patience(), Patience::Enough);
        let both = vec!["1.2.3.4".parse().unwrap(), "2a00::1".parse().unwrap()];
        assert_eq!(
            replies.conclude(),
            Ok(Answer::Addresses { addresses: both, ttl: Duration::from_secs(5) })
        );
    }

    #[test]
    fn a_name_with_ipv6_only_is_no_name_without_addresses() {
        let mut replies = Replies { v4: Some(Reply::Answer(Answer::NoAddress)), v6: None };
        assert_eq!(replies.patience(), Patience::NoEnd);
        replies.take(Family::V6, Reply::Answer(Answer::NoAddress));
        assert_eq!(replies.conclude(), Ok(Answer::NoAddress));
        let denied = Replies { v4: Some(Reply::Answer(Answer::NoSuchName)), v6: None };
        assert_eq!((denied.patience(), denied.conclude()), (Patience::Enough, Ok(Answer::NoSuchName)));
        let v6 = AAAA::new(0x2a00, 0, 0, 0, 0, 0, 0, 1);
        let [_, aaaa] = question().messages();
        let message = answer(&aaaa, &[RData::AAAA(v6)]);
        assert!(matches!(reply(&message, Family::V6), Reply::Answer(Answer::Addresses { .. })));
    }

    proptest::proptest! {
        #[test]
        fn no_message_is_too_strange(bytes: Vec<u8>, at in 0usize..60, with: u8) {
            let question = question();
            question.read(&bytes);
            let mut almost = answer(&question.messages()[0], &[RData::A(A::new(1, 2, 3, 4))]).to_vec().unwrap();
            let at = at % almost.len();
            almost[at] = with;
            question.read(&almost);
            question.read(&almost[..at]);
        }
    }
}
