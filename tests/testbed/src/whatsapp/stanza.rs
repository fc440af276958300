//! Reading and building stanzas (binary nodes).

use std::borrow::Cow;

use wacore_binary::builder::NodeBuilder;
use wacore_binary::{Jid, Node, NodeContent, NodeValue, Server};

/// The server's own address, as clients compare it: a JID pair with an empty user.
pub fn server_jid() -> Jid {
    Jid::new("", Server::Pn)
}

/// What every part of the server asks of a stanza.
pub trait Stanza {
    fn attr(&self, key: &str) -> Option<Cow<'_, str>>;
    fn jid(&self, key: &str) -> Option<Jid>;
    fn child(&self, tag: &str) -> Option<&Node>;
    fn first_child(&self) -> Option<&Node>;
    fn all<'a>(&'a self, tag: &'a str) -> impl Iterator<Item = &'a Node>;
    /// Content of a leaf; clients write short content as bytes or as a token string.
    fn bytes(&self) -> Option<&[u8]>;
    /// Big-endian number of at most four bytes, as Signal ids are written.
    fn number(&self) -> Option<u32>;
    /// Content of exactly 32 bytes, or 33 with the key type in front.
    fn key(&self) -> Option<[u8; 32]>;
    /// The same stanza with another attribute.
    fn with(self, key: &'static str, value: impl Into<NodeValue>) -> Node;
}

impl Stanza for Node {
    fn attr(&self, key: &str) -> Option<Cow<'_, str>> {
        self.attrs.get(key).map(NodeValue::as_str)
    }

    fn jid(&self, key: &str) -> Option<Jid> {
        self.attrs.get(key).and_then(NodeValue::to_jid)
    }

    fn child(&self, tag: &str) -> Option<&Node> {
        self.get_optional_child(tag)
    }

    fn first_child(&self) -> Option<&Node> {
        self.children()?.first()
    }

    fn all<'a>(&'a self, tag: &'a str) -> impl Iterator<Item = &'a Node> {
        self.get_children_by_tag(tag)
    }

    fn bytes(&self) -> Option<&[u8]> {
        match &self.content {
            Some(NodeContent::Bytes(bytes)) => Some(bytes),
            Some(NodeContent::String(text)) => Some(text.as_bytes()),
            _ => None,
        }
    }

    fn number(&self) -> Option<u32> {
        let bytes = self.bytes()?;
        (!bytes.is_empty() && bytes.len() <= 4)
            .then(|| bytes.iter().fold(0, |number, byte| number << 8 | u32::from(*byte)))
    }

    fn key(&self) -> Option<[u8; 32]> {
        let bytes = self.bytes()?;
        if let [5, key @ ..] = bytes
            && key.len() == 32
        {
            return key.try_into().ok();
        }
        bytes.try_into().ok()
    }

    fn with(mut self, key: &'static str, value: impl Into<NodeValue>) -> Node {
        self.attrs.insert(key, value);
        self
    }
}

pub fn node(tag: &'static str) -> NodeBuilder {
    NodeBuilder::new(tag)
}

/// A leaf with binary content.
pub fn leaf(tag: &'static str, content: impl Into<Vec<u8>>) -> Node {
    node(tag).bytes(content).build()
}

/// A Signal key id on the wire: 3 bytes, big endian.
pub fn key_id(id: u32) -> Vec<u8> {
    id.to_be_bytes()[1..].to_vec()
}

/// Key type of Curve25519, in front of keys in Signal structures.
pub const KEY_TYPE: u8 = 5;

/// `<iq type="result">` for a request. `from` is what the request was sent to.
pub fn result(request: &Node, children: impl IntoIterator<Item = Node>) -> Node {
    let children: Vec<Node> = children.into_iter().collect();
    let answer = answer(request, "result");
    if children.is_empty() { answer.build() } else { answer.children(children).build() }
}

/// `<iq type="error">` for a request.
pub fn error(request: &Node, code: u16, text: &'static str) -> Node {
    let error = node("error").attr("code", code).attr("text", text).build();
    answer(request, "error").children([error]).build()
}

/// The error for a request that this server does not know.
pub fn not_implemented(request: &Node) -> Node {
    error(request, 501, "feature-not-implemented")
}

fn answer(request: &Node, kind: &'static str) -> NodeBuilder {
    let from = match request.jid("to") {
        Some(to) if !to.user.is_empty() => to,
        _ => server_jid(),
    };
    node("iq")
        .attr("from", from)
        .attr("id", request.attr("id").unwrap_or_default().into_owned())
        .attr("type", kind)
}

/// `<ib>` from the server; every client reads only the first child.
pub fn ib(child: Node) -> Node {
    node("ib").attr("from", server_jid()).children([child]).build()
}
