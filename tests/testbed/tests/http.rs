//! The HTTP side of the server's port.

use std::io::{Read, Write};
use std::net::TcpStream;

use testbed::{Options, WhatsApp};

/// Status line and body of one request.
fn request(server: &WhatsApp, head: &str, body: &[u8]) -> (String, Vec<u8>) {
    let mut stream = TcpStream::connect(server.address()).unwrap();
    write!(stream, "{head} HTTP/1.1\r\nhost: test\r\ncontent-length: {}\r\n\r\n", body.len()).unwrap();
    stream.write_all(body).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    let end = answer.windows(4).position(|window| window == b"\r\n\r\n").unwrap();
    let status = String::from_utf8_lossy(&answer).lines().next().unwrap().to_owned();
    (status, answer[end + 4..].to_vec())
}

#[test]
fn it_says_that_it_is_ready_and_which_version_is_current() {
    let server = WhatsApp::start(Options::default()).unwrap();
    assert_eq!(request(&server, "GET /", b"").0, "HTTP/1.1 200 OK");
    let (_, worker) = request(&server, "GET /sw.js", b"");
    assert!(wacore::version::parse_sw_js(&String::from_utf8(worker).unwrap()).is_some());
}

#[test]
fn a_qr_code_that_nobody_shows_is_refused() {
    let server = WhatsApp::start(Options::default()).unwrap();
    let (status, why) = request(&server, "POST /admin/mock-phone/scan-qr", b"nonsense");
    assert_eq!(status, "HTTP/1.1 404 Not Found");
    assert!(String::from_utf8(why).unwrap().contains("QR"));
}

#[test]
fn media_come_back_as_they_were_uploaded() {
    let server = WhatsApp::start(Options::default()).unwrap();
    let path = "/mms/image/token";
    let (_, unknown) = request(&server, &format!("POST {path}?resume=1"), b"");
    assert_eq!(unknown, b"{}");
    let body: Vec<u8> = (0..100_000u32).map(|n| n as u8).collect();
    let (status, stored) = request(&server, &format!("POST {path}?auth=a&token=t"), &body);
    assert_eq!(status, "HTTP/1.1 200 OK");
    let stored: serde_json::Value = serde_json::from_slice(&stored).unwrap();
    assert_eq!(stored["direct_path"], path);
    let (_, fetched) = request(&server, &format!("GET {path}?auth=a"), b"");
    assert_eq!(fetched, body);
    assert_eq!(request(&server, "GET /mms/image/other", b"").0, "HTTP/1.1 404 Not Found");
}

#[test]
fn a_stopped_server_lets_go_of_its_port() {
    let server = WhatsApp::start(Options::default()).unwrap();
    let address = server.address();
    let mut open = TcpStream::connect(address).unwrap();
    drop(server);
    let mut rest = Vec::new();
    // An open connection ends, and new ones find nobody.
    let _ = open.read_to_end(&mut rest);
    assert!(TcpStream::connect(address).is_err());
}
