//! Who has which address, and the honest answer to a question about it.

use std::collections::BTreeMap;
use std::net::IpAddr;

use anyhow::{Context, ensure};
use hickory_proto::op::{Edns, Message, Metadata, Query, ResponseCode};
use hickory_proto::rr::rdata::{A, AAAA, CNAME, SOA};
use hickory_proto::rr::{Name, RData, Record, RecordType};

/// Names in the zone.
const MAX_HOSTS: usize = 1000;

/// Addresses of one name: what fits into a datagram several times over.
const MAX_ADDRESSES: usize = 256;

/// Links from name to name that are followed.
const MAX_ALIASES: usize = 8;

/// Seconds that "there is no such name" may be remembered (RFC 2308), as the SOA record says.
const NEGATIVE_TTL: u32 = 60;

/// Bytes of a datagram that a client without EDNS takes (RFC 1035 §4.2.1), and most that it may offer.
const DATAGRAM: u16 = 512;
const MAX_DATAGRAM: u16 = 1232;

enum Host {
    Addresses { addresses: Vec<IpAddr>, ttl: u32 },
    Alias { of: String, ttl: u32 },
}

#[derive(Default)]
pub struct Zone {
    hosts: BTreeMap<String, Host>,
}

/// A name as it is looked up and counted: in lower case, without the last dot.
pub fn plain(name: &str) -> String {
    name.trim_end_matches('.').to_ascii_lowercase()
}

impl Zone {
    /// # Errors
    /// When the name can be none, or the zone is full.
    pub fn set(&mut self, host: &str, addresses: &[IpAddr], ttl: u32) -> anyhow::Result<()> {
        ensure!(addresses.len() <= MAX_ADDRESSES, "{host} has more than {MAX_ADDRESSES} addresses");
        self.insert(host, Host::Addresses { addresses: addresses.to_vec(), ttl })
    }

    /// # Errors
    /// When one of the names can be none, or the zone is full.
    pub fn set_alias(&mut self, host: &str, of: &str, ttl: u32) -> anyhow::Result<()> {
        parsed(of)?;
        self.insert(host, Host::Alias { of: plain(of), ttl })
    }

    fn insert(&mut self, host: &str, entry: Host) -> anyhow::Result<()> {
        parsed(host)?;
        let host = plain(host);
        let full = self.hosts.len() >= MAX_HOSTS && !self.hosts.contains_key(&host);
        ensure!(!full, "the zone has {MAX_HOSTS} names: forget some");
        self.hosts.insert(host, entry);
        Ok(())
    }

    pub fn forget(&mut self, host: &str) {
        self.hosts.remove(&plain(host));
    }

    /// The answer of an honest recursive resolver.
    pub fn answer(&self, query: &Message) -> Message {
        let mut answer = empty_answer(query, ResponseCode::NoError);
        let Some(question) = query.queries.first() else {
            answer.metadata.response_code = ResponseCode::FormErr;
            return answer;
        };
        let mut owner = question.name.clone();
        for _ in 0..MAX_ALIASES {
            match self.hosts.get(&plain(&owner.to_ascii())) {
                None => {
                    answer.metadata.response_code = ResponseCode::NXDomain;
                    break;
                }
                Some(Host::Addresses { addresses, ttl }) => {
                    answer.answers.extend(records(&owner, addresses, *ttl, question.query_type));
                    break;
                }
                Some(Host::Alias { of, ttl }) => {
                    // Checked when it was set.
                    let Ok(target) = parsed(of) else { break };
                    let alias = RData::CNAME(CNAME(target.clone()));
                    answer.answers.push(Record::from_rdata(owner, *ttl, alias));
                    owner = target;
                }
            }
        }
        if !answer.answers.iter().any(|record| record.record_type() == question.query_type) {
            answer.authorities.push(start_of_authority());
        }
        answer
    }
}

/// The answer that a liar gives: these addresses, whatever was asked for, perhaps behind an alias.
pub fn lie(query: &Message, addresses: &[IpAddr], alias: Option<&str>, ttl: u32) -> Message {
    let mut answer = empty_answer(query, ResponseCode::NoError);
    let Some(question) = query.queries.first() else { return answer };
    let mut owner = question.name.clone();
    if let Some(target) = alias.and_then(|alias| parsed(alias).ok()) {
        answer.answers.push(Record::from_rdata(owner, ttl, RData::CNAME(CNAME(target.clone()))));
        owner = target;
    }
    answer.answers.extend(records(&owner, addresses, ttl, question.query_type));
    answer
}

/// An answer with the question and nothing else.
pub fn empty_answer(query: &Message, code: ResponseCode) -> Message {
    let mut answer = Message::new(query.metadata.id, query.metadata.message_type, query.metadata.op_code);
    answer.metadata = Metadata::response_from_request(&query.metadata);
    answer.metadata.recursion_available = true;
    answer.metadata.response_code = code;
    answer.queries = query.queries.clone();
    if query.edns.is_some() {
        let mut edns = Edns::new();
        edns.set_max_payload(MAX_DATAGRAM);
        answer.edns = Some(edns);
    }
    answer
}

/// Bytes of a datagram that the client takes.
pub fn datagram_limit(query: &Message) -> usize {
    let offered = query.edns.as_ref().map_or(DATAGRAM, Edns::max_payload);
    offered.clamp(DATAGRAM, MAX_DATAGRAM).into()
}

/// The same answer to another question, as an attacker guesses it.
pub fn about_another_name(mut answer: Message) -> anyhow::Result<Message> {
    let other = parsed("another.example")?;
    for question in &mut answer.queries {
        *question = Query::query(other.clone(), question.query_type);
    }
    for record in &mut answer.answers {
        record.name = other.clone();
    }
    Ok(answer)
}

fn parsed(name: &str) -> anyhow::Result<Name> {
    let mut parsed = Name::from_ascii(name).with_context(|| format!("{name:?} is no DNS name"))?;
    parsed.set_fqdn(true);
    Ok(parsed)
}

fn records(owner: &Name, addresses: &[IpAddr], ttl: u32, kind: RecordType) -> Vec<Record> {
    let data = addresses.iter().filter_map(|address| match (address, kind) {
        (IpAddr::V4(v4), RecordType::A) => Some(RData::A(A(*v4))),
        (IpAddr::V6(v6), RecordType::AAAA) => Some(RData::AAAA(AAAA(*v6))),
        _ => None,
    });
    data.map(|data| Record::from_rdata(owner.clone(), ttl, data)).collect()
}

fn start_of_authority() -> Record {
    let root = Name::root();
    let soa = SOA::new(root.clone(), root.clone(), 1, 3600, 600, 86_400, NEGATIVE_TTL);
    Record::from_rdata(root, NEGATIVE_TTL, RData::SOA(soa))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(zone: &Zone, name: &str, kind: RecordType) -> Message {
        let mut query = Message::query();
        query.add_query(Query::query(parsed(name).unwrap(), kind));
        zone.answer(&query)
    }

    #[test]
    fn a_name_is_found_in_any_case_and_answered_in_the_asker_s() {
        let mut zone = Zone::default();
        zone.set("web.whatsapp.com.", &["157.240.0.60".parse().unwrap()], 30).unwrap();
        let answer = ask(&zone, "wEB.whatsapp.COM", RecordType::A);
        assert_eq!(answer.answers.len(), 1);
        assert_eq!(answer.answers[0].name.to_ascii(), "wEB.whatsapp.COM.");
        assert_eq!(answer.answers[0].ttl, 30);
        let none = ask(&zone, "web.whatsapp.com", RecordType::AAAA);
        assert_eq!((none.metadata.response_code, none.answers.len()), (ResponseCode::NoError, 0));
        let unknown = ask(&zone, "x.example", RecordType::A);
        assert_eq!(unknown.metadata.response_code, ResponseCode::NXDomain);
        assert_eq!(unknown.authorities.len(), 1, "a negative answer says how long it holds");
    }

    #[test]
    fn an_alias_is_followed_and_a_circle_ends() {
        let mut zone = Zone::default();
        zone.set_alias("web.whatsapp.com", "mmx-ds.cdn.whatsapp.net", 5).unwrap();
        zone.set("mmx-ds.cdn.whatsapp.net", &["157.240.0.60".parse().unwrap()], 5).unwrap();
        let kinds: Vec<RecordType> =
            ask(&zone, "web.whatsapp.com", RecordType::A).answers.iter().map(Record::record_type).collect();
        assert_eq!(kinds, [RecordType::CNAME, RecordType::A]);
        zone.set_alias("a.example", "a.example", 5).unwrap();
        assert_eq!(ask(&zone, "a.example", RecordType::A).answers.len(), MAX_ALIASES);
    }
}
