use super::*;
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use smol::io::{AsyncReadExt, AsyncWriteExt};
use smol::net::TcpListener;

use crate::executor::Executor;
use crate::net::{Resolver, tls};

const SOON: Duration = Duration::from_secs(30);

/// What is kept lives as long as the test.
#[derive(Default)]
struct Answers(Mutex<HashMap<String, Vec<u8>>>);

#[async_trait]
impl KeptAnswers for Answers {
    fn kept(&self, url: &str) -> Option<Vec<u8>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(url).cloned()
    }

    async fn keep(&self, url: &str, body: &[u8]) {
        self.0.lock().unwrap().insert(url.to_owned(), body.to_vec());
    }
}

fn run<T>(test: impl AsyncFnOnce(Executor) -> T) -> T {
    let executor = crate::executor::new();
    let result = smol::block_on(executor.run(within(SOON, Box::pin(test(executor)))));
    result.expect("the test did not end in time")
}

fn client(executor: Executor, port: u16, answers: &Arc<Answers>) -> WebClient {
    let resolver = Resolver::with_servers(executor, &[]);
    WebClient {
        agent: http::agent(&resolver, &tls::client_config(None).unwrap()),
        endpoint: Endpoint::parse(&format!("ws://localhost:{port}/ws/chat")).unwrap(),
        answers: answers.clone(),
    }
}

/// Serves `answers` one after another, each on a connection of its own; the requests come back.
async fn serve(listener: &TcpListener, answers: &[&[u8]]) -> Vec<String> {
    let mut requests = Vec::new();
    for answer in answers {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut request = Vec::new();
        let mut buffer = [0; 4096];
        while !complete(&request) {
            let read = stream.read(&mut buffer).await.unwrap();
            assert!(read > 0, "half a request");
            request.extend_from_slice(&buffer[..read]);
        }
        // The client may hang up in the middle of an answer that is too long for it.
        let _ = stream.write_all(answer).await;
        let _ = stream.close().await;
        requests.push(String::from_utf8(request).unwrap().to_ascii_lowercase());
    }
    requests
}

fn complete(request: &[u8]) -> bool {
    let text = String::from_utf8_lossy(request).to_ascii_lowercase();
    let Some((head, body)) = text.split_once("\r\n\r\n") else { return false };
    let length = head.lines().find_map(|l| l.strip_prefix("content-length: "));
    body.len() >= length.map_or(0, |l| l.parse().unwrap())
}

fn answer(status: &str, body: &str) -> Vec<u8> {
    let length = body.len();
    format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}").into_bytes()
}

async fn version(client: &WebClient) -> u32 {
    let http: Arc<dyn HttpClient> = Arc::new(WebClient {
        agent: client.agent.clone(),
        endpoint: client.endpoint.clone(),
        answers: client.answers.clone(),
    });
    // whatsapp-rust's own look-up, as `connect` makes it.
    let (primary, secondary, revision) =
        whatsapp_rust::version::fetch_latest_app_version(&http).await.unwrap();
    assert_eq!((primary, secondary), (2, 3000));
    revision
}

#[test]
fn the_last_good_version_is_served_whatever_the_page_says_now() {
    run(async |executor| {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let answers = Arc::new(Answers::default());
        let client = client(executor, listener.local_addr().unwrap().port(), &answers);
        let newest = Device::new().app_version_tertiary + 1000;
        let page = format!("{}\"client_revision\":{newest},", "x".repeat(20_000));

        let good = answer("200 OK", &page);
        let (requests, found) = futures_lite::future::zip(serve(&listener, &[&good]), version(&client)).await;
        assert_eq!(found, newest);
        assert!(requests[0].starts_with("get /sw.js http/1.1\r\n"), "{}", requests[0]);
        assert!(answers.kept(VERSION_PAGE).unwrap().len() < 100, "only the version is kept");

        let broken: [&[u8]; 8] = [
            &answer("503 Service Unavailable", &page),
            &answer("404 Not Found", ""),
            b"HTTP/1.1 302 Found\r\nLocation: http://portal.example/\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
            &answer("200 OK", "<html>please log in</html>"),
            &answer("200 OK", "assets-manifest-123 "),
            &answer("200 OK", &format!("client_revision:9{}", "0".repeat(2_000_000))),
            b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\nConnection: close\r\n\r\n\"client_rev",
            b"\xff\xfe\x00garbage\r\n\r\n",
        ];
        for broken in broken {
            let shown = String::from_utf8_lossy(&broken[..broken.len().min(60)]).into_owned();
            let (_, found) = futures_lite::future::zip(serve(&listener, &[broken]), version(&client)).await;
            assert_eq!(found, newest, "after {shown}");
        }
        drop(listener);
        assert_eq!(version(&client).await, newest, "nobody listens");
    });
}

#[test]
fn without_any_page_ever_the_built_in_version_is_served() {
    run(async |executor| {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        drop(listener);
        let answers = Arc::new(Answers::default());
        let client = client(executor, port, &answers);
        let built_in = Device::new().app_version_tertiary;
        assert_eq!(version(&client).await, built_in);
        assert_eq!(answers.kept(VERSION_PAGE), None, "what nobody answered is not kept");
        answers.keep(VERSION_PAGE, &version_body(built_in - 5)).await;
        assert_eq!(version(&client).await, built_in, "an older one than that of an update");
    });
}

#[test]
fn a_busy_worker_does_not_hold_the_version_up() {
    run(async |executor| {
        let answers = Arc::new(Answers::default());
        let client = client(executor, 9, &answers);
        let (release, released) = async_channel::bounded::<()>(1);
        let (busy, started) = async_channel::bounded(1);
        let job = executor.spawn(worker::run(move || {
            busy.send_blocking(()).unwrap();
            released.recv_blocking()
        }));
        started.recv().await.unwrap();
        let request = HttpRequest::get(VERSION_PAGE);
        let page = client.version_page(request, Duration::from_millis(100)).await;
        assert_eq!(revision(&page), Some(Device::new().app_version_tertiary));
        release.send(()).await.unwrap();
        job.await.unwrap().unwrap();
    });
}

#[test]
fn any_status_is_an_answer_and_a_body_is_sent_whole() {
    run(async |executor| {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let client = client(executor, port, &Arc::default());
        let url = format!("http://127.0.0.1:{port}/upload?auth=secret");
        let body = "b".repeat(100_000);
        let request = HttpRequest::post(&url).with_header("x-one", "1").with_body(body.clone());
        let denied = answer("403 Forbidden", "no");
        let (requests, response) =
            futures_lite::future::zip(serve(&listener, &[&denied]), client.execute(request)).await;
        let response = response.unwrap();
        assert_eq!((response.status_code, &response.body[..]), (403, &b"no"[..]));
        assert!(requests[0].contains("x-one: 1\r\n") && requests[0].ends_with(&body));

        // The same as a stream, on the worker thread as whatsapp-rust does it.
        let client = Arc::new(client);
        let (streaming, sent) = (client.clone(), body.clone());
        let upload_to = HttpRequest::post(&url);
        let upload = worker::run(move || {
            let length = sent.len() as u64;
            streaming.execute_upload(upload_to, Box::new(std::io::Cursor::new(sent)), length)
        });
        let done = answer("200 OK", "stored");
        let (requests, response) = futures_lite::future::zip(serve(&listener, &[&done]), upload).await;
        assert_eq!(response.unwrap().unwrap().body, b"stored");
        assert!(requests[0].contains("content-length: 100000\r\n") && requests[0].ends_with(&body));

        let (streaming, from) = (client.clone(), HttpRequest::get(&url));
        let download = worker::run(move || {
            let mut text = String::new();
            let mut response = streaming.execute_streaming(from).unwrap();
            response.body.read_to_string(&mut text).map(|_| (response.status_code, text))
        });
        let page = answer("410 Gone", &body);
        let (_, downloaded) = futures_lite::future::zip(serve(&listener, &[&page]), download).await;
        assert_eq!(downloaded.unwrap().unwrap(), (410, body));

        drop(listener);
        let error = client.execute(HttpRequest::get(&url)).await.unwrap_err();
        assert!(matches!(error.downcast_ref(), Some(HttpError::Exchange { .. })), "{error}");
        let text = format!("{error:#}");
        assert!(text.contains("/upload") && !text.contains("secret"), "{text}");
    });
}

#[test]
fn a_body_beyond_the_limit_is_an_error() {
    run(async |executor| {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let client = client(executor, port, &Arc::default());
        let endless = answer("200 OK", &"x".repeat(MAX_BODY_BYTES as usize + 1));
        let request = HttpRequest::get(format!("http://127.0.0.1:{port}/big"));
        let (_, response) =
            futures_lite::future::zip(serve(&listener, &[&endless]), client.execute(request)).await;
        assert!(response.is_err());
    });
}
