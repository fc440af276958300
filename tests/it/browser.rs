//! A real browser (Chromium without a window) with a passkey in a virtual authenticator, at a page that it
//! takes for https://web.whatsapp.com. It is driven by the DevTools protocol over pipes and needs no network.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::scene::until;

/// Variable with the path of the browser, if it is not one of [`NAMES`] in the path.
const VARIABLE: &str = "BOT_KJP_CHROMIUM";

const NAMES: [&str; 4] = ["chromium-headless-shell", "chromium", "chromium-browser", "google-chrome"];

/// The page: nothing but what WhatsApp's has of rules that a pasted script could break.
const PAGE: &str = "<!doctype html><title>WhatsApp Web</title><body>";
const POLICY: &str = "default-src 'none'; require-trusted-types-for 'script'";

pub struct Browser {
    child: Child,
    to: ChildStdin,
    from: BufReader<ChildStdout>,
    last_id: u64,
    /// Of the page.
    session: String,
    loaded: bool,
    _profile: TempDir,
}

impl Browser {
    /// Starts one that has this passkey and shows WhatsApp Web.
    pub fn with_passkey(credential: &[u8], pkcs8: &[u8]) -> Self {
        let profile = tempfile::tempdir().expect("a temporary folder");
        // The protocol's pipes are the descriptors 3 and 4 of the browser.
        let mut child = Command::new("sh")
            .args(["-c", "exec setpriv --pdeathsig KILL -- \"$0\" \"$@\" 3<&0 4>&1 </dev/null >/dev/null"])
            .arg(program())
            .args(["--headless", "--no-sandbox", "--disable-gpu", "--remote-debugging-pipe"])
            .arg(format!("--user-data-dir={}", profile.path().display()))
            .arg("about:blank")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("the browser starts");
        let to = child.stdin.take().expect("stdin is piped");
        let from = BufReader::new(child.stdout.take().expect("stdout is piped"));
        let (last_id, session, loaded) = (0, String::new(), false);
        let mut browser = Self { child, to, from, last_id, session, loaded, _profile: profile };
        browser.open_whatsapp();
        browser.call("WebAuthn.enable", json!({}));
        let authenticator = browser.call(
            "WebAuthn.addVirtualAuthenticator",
            json!({ "options": {
                "protocol": "ctap2", "transport": "internal", "hasResidentKey": true,
                "hasUserVerification": true, "isUserVerified": true, "automaticPresenceSimulation": true,
            } }),
        );
        browser.call(
            "WebAuthn.addCredential",
            json!({
                "authenticatorId": authenticator["authenticatorId"],
                "credential": {
                    "credentialId": BASE64_STANDARD.encode(credential), "isResidentCredential": true,
                    "rpId": "whatsapp.com", "privateKey": BASE64_STANDARD.encode(pkcs8),
                    "userHandle": BASE64_STANDARD.encode("warga"), "signCount": 0,
                },
            }),
        );
        browser
    }

    fn open_whatsapp(&mut self) {
        let page = self.call("Target.createTarget", json!({ "url": "about:blank" }));
        let attach = json!({ "targetId": page["targetId"], "flatten": true });
        let attached = self.call("Target.attachToTarget", attach);
        self.call(
            "Browser.grantPermissions",
            json!({ "permissions": ["clipboardReadWrite", "clipboardSanitizedWrite"] }),
        );
        self.session = attached["sessionId"].as_str().expect("a session").to_owned();
        self.call("Page.enable", json!({}));
        self.call("Fetch.enable", json!({ "patterns": [{ "urlPattern": "*" }] }));
        self.call("Emulation.setFocusEmulationEnabled", json!({ "enabled": true }));
        self.call("Page.navigate", json!({ "url": "https://web.whatsapp.com/" }));
        while !self.loaded {
            self.hear();
        }
    }

    /// What a line in the console comes to.
    pub fn run(&mut self, line: &str) -> Value {
        let run = json!({ "expression": line, "awaitPromise": true, "returnByValue": true });
        let done = self.call("Runtime.evaluate", run);
        assert!(done["exceptionDetails"].is_null(), "{line}: {done}");
        done["result"]["value"].clone()
    }

    /// Clicks in the middle of the element with this id, as with a mouse.
    pub fn click(&mut self, id: &str) {
        let place = self.run(&format!(
            "(()=>{{const r=document.getElementById('{id}').getBoundingClientRect();\
             return [r.x+r.width/2,r.y+r.height/2]}})()"
        ));
        for kind in ["mousePressed", "mouseReleased"] {
            self.call(
                "Input.dispatchMouseEvent",
                json!({ "type": kind, "x": place[0], "y": place[1], "button": "left", "clickCount": 1 }),
            );
        }
    }

    /// Waits until an expression gives a text that is not empty.
    pub fn wait_for_text(&mut self, expression: &str) -> String {
        let found = until(|| match self.run(expression) {
            Value::String(text) if !text.is_empty() => Some(text),
            _ => None,
        });
        found.unwrap_or_else(|| panic!("{expression} stays empty"))
    }

    /// A command and its result; of the page, once there is one.
    fn call(&mut self, method: &str, params: Value) -> Value {
        let id = self.send(method, params);
        loop {
            let heard = self.hear();
            if heard["id"] == id {
                assert!(heard["error"].is_null(), "{method}: {heard}");
                return heard["result"].clone();
            }
        }
    }

    fn send(&mut self, method: &str, params: Value) -> u64 {
        self.last_id += 1;
        let mut command = json!({ "id": self.last_id, "method": method, "params": params });
        if !self.session.is_empty() && !method.starts_with("Browser.") {
            command["sessionId"] = self.session.clone().into();
        }
        self.to.write_all(format!("{command}\0").as_bytes()).expect("the browser listens");
        self.last_id
    }

    /// The next thing that the browser says; its request for the page is answered.
    fn hear(&mut self) -> Value {
        let mut message = Vec::new();
        self.from.read_until(0, &mut message).expect("the browser speaks");
        assert!(message.pop() == Some(0), "the browser has ended");
        let heard: Value = serde_json::from_slice(&message).expect("JSON");
        match heard["method"].as_str() {
            Some("Fetch.requestPaused") => {
                let header = |name: &str, value: &str| json!({ "name": name, "value": value });
                let answer = json!({
                    "requestId": heard["params"]["requestId"],
                    "responseCode": 200,
                    "responseHeaders":
                        [header("Content-Type", "text/html"), header("Content-Security-Policy", POLICY)],
                    "body": BASE64_STANDARD.encode(PAGE),
                });
                self.send("Fetch.fulfillRequest", answer);
            }
            Some("Page.loadEventFired") => self.loaded = true,
            _ => {}
        }
        heard
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn program() -> PathBuf {
    if let Some(named) = std::env::var_os(VARIABLE) {
        return named.into();
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .flat_map(|folder| NAMES.map(|name| folder.join(name)))
        .find(|file| file.is_file())
        .unwrap_or_else(|| panic!("no browser: scripts/test installs one, or name one in {VARIABLE}"))
}
