//! Media store: opaque encrypted bodies, uploaded and fetched over HTTP on the same port.

use std::collections::HashMap;

use wacore_binary::Node;

use super::stanza::{node, result};
use super::world::World;

/// Bytes of all media together; a test bed's memory is not endless.
const MAX_BYTES: usize = 512 * 1024 * 1024;

/// Seconds that a client may use one answer to `<media_conn>`.
const CONNECTION_LIVES: u32 = 3600;

/// Uploaded bodies by their path.
#[derive(Default)]
pub struct Media {
    bodies: HashMap<String, Vec<u8>>,
    bytes: usize,
    /// `host:port` that clients are told to use.
    pub host: String,
}

impl Media {
    /// Takes an upload to `path`; gives the JSON answer, or `None` when the store is full.
    pub fn store(&mut self, path: &str, body: Vec<u8>) -> Option<String> {
        if self.bytes + body.len() > MAX_BYTES {
            return None;
        }
        self.bytes += body.len();
        if let Some(old) = self.bodies.insert(path.to_owned(), body) {
            self.bytes -= old.len();
        }
        Some(self.described(path))
    }

    /// The JSON that names a stored body.
    fn described(&self, path: &str) -> String {
        serde_json::json!({ "url": format!("https://{}{path}", self.host), "direct_path": path }).to_string()
    }

    /// Answer to a client that asks whether its upload is there already (`resume=1`).
    pub fn probe(&self, path: &str) -> String {
        if self.bodies.contains_key(path) {
            let mut known: serde_json::Value =
                serde_json::from_str(&self.described(path)).unwrap_or_default();
            known["resume"] = "complete".into();
            known.to_string()
        } else {
            "{}".to_owned()
        }
    }

    pub fn fetch(&self, path: &str) -> Option<Vec<u8>> {
        self.bodies.get(path).cloned()
    }
}

impl World {
    /// `<media_conn/>`.
    pub fn on_media_conn(&self, request: &Node) -> Node {
        let host = node("host").attr("hostname", self.media.host.as_str()).attr("type", "primary").build();
        let connection = node("media_conn")
            .attr("auth", "testbed")
            .attr("ttl", CONNECTION_LIVES)
            .attr("auth_ttl", CONNECTION_LIVES)
            .attr("max_buckets", 12u8)
            .children([host])
            .build();
        result(request, [connection])
    }
}
