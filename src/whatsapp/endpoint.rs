//! Which server plays WhatsApp: the real one, or one for tests.

use async_tungstenite::tungstenite::http::Uri;
use wacore::net::WHATSAPP_WEB_WS_URL;

/// The web server that belongs to the WebSocket; whatsapp-rust asks it for the client version.
const WHATSAPP_WEB: &str = "https://web.whatsapp.com";

/// A WebSocket URL that has a scheme, a host and a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    url: String,
    host: String,
    port: u16,
    tls: bool,
}

/// Why a URL cannot be WhatsApp's.
#[derive(Debug, thiserror::Error)]
#[error("`{url}` is not a WebSocket address like {WHATSAPP_WEB_WS_URL} ({reason}); correct it")]
pub struct EndpointError {
    url: String,
    reason: String,
}

impl Default for Endpoint {
    /// WhatsApp's own.
    fn default() -> Self {
        Self { url: WHATSAPP_WEB_WS_URL.into(), host: "web.whatsapp.com".into(), port: 443, tls: true }
    }
}

impl Endpoint {
    /// Parses `ws://` and `wss://` URLs.
    pub fn parse(url: &str) -> Result<Self, EndpointError> {
        let refuse = |reason: &str| EndpointError { url: url.to_owned(), reason: reason.to_owned() };
        let uri: Uri = url.parse().map_err(|e| refuse(&format!("{e}")))?;
        let tls = match uri.scheme_str() {
            Some("wss") => true,
            Some("ws") => false,
            _ => return Err(refuse("it does not begin with ws:// or wss://")),
        };
        let host = uri.host().filter(|h| !h.is_empty()).ok_or_else(|| refuse("it has no host"))?;
        if uri.authority().is_some_and(|a| a.as_str().contains('@')) {
            return Err(refuse("it holds a user name"));
        }
        let port = uri.port_u16().unwrap_or(if tls { 443 } else { 80 });
        Ok(Self { url: url.to_owned(), host: host.to_owned(), port, tls })
    }

    pub fn url(&self) -> &str {
        &self.url
    }

    /// A DNS name or an address; IPv6 stands in brackets.
    pub fn host(&self) -> &str {
        &self.host
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    pub fn tls(&self) -> bool {
        self.tls
    }

    /// Whether this is WhatsApp's own server.
    pub fn is_whatsapp(&self) -> bool {
        self.tls && self.port == 443 && self.host == "web.whatsapp.com"
    }

    /// Where a web page of WhatsApp is really fetched: a server that plays WhatsApp serves
    /// `https://web.whatsapp.com/…` as well, on the same port. Other URLs stay as they are.
    pub fn web_url(&self, url: &str) -> String {
        match url.strip_prefix(WHATSAPP_WEB) {
            Some(path) if !self.is_whatsapp() && path.starts_with('/') => {
                let scheme = if self.tls { "https" } else { "http" };
                format!("{scheme}://{}:{}{path}", self.host, self.port)
            }
            _ => url.to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_is_what_whatsapp_rust_knows() {
        assert_eq!(Endpoint::parse(WHATSAPP_WEB_WS_URL).unwrap(), Endpoint::default());
        assert!(Endpoint::default().is_whatsapp());
    }

    #[test]
    fn pages_of_whatsapp_come_from_the_server_that_plays_it() {
        let page = "https://web.whatsapp.com/sw.js";
        let web = |url| Endpoint::parse(url).unwrap().web_url(page);
        assert_eq!(web("ws://127.0.0.1:8080/ws/chat"), "http://127.0.0.1:8080/sw.js");
        assert_eq!(web("wss://[::1]:8443/ws/chat"), "https://[::1]:8443/sw.js");
        assert_eq!(web("wss://test.example"), "https://test.example:443/sw.js");
        assert_eq!(Endpoint::default().web_url(page), page);
        let elsewhere = "https://web.whatsapp.com.example/sw.js";
        assert_eq!(Endpoint::parse("ws://127.0.0.1:1/").unwrap().web_url(elsewhere), elsewhere);
    }

    #[test]
    fn what_is_no_websocket_address_is_refused() {
        for url in
            ["", "web.whatsapp.com", "https://web.whatsapp.com/ws/chat", "ws://", "ws://u:p@h/", "ws:// x"]
        {
            let error = Endpoint::parse(url).unwrap_err().to_string();
            assert!(error.contains("ws"), "{error}");
        }
    }
}
