//! `testbed` as a program: what a shell script sees of it, and that nothing stays behind.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpStream, UdpSocket};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};

use serde_json::{Value, json};
use testbed::baileys::{Baileys, PATIENCE};
use testbed::interrupt::wait_until;

const SIGTERM: i32 = 15;
const SIGKILL: i32 = 9;

/// The program, killed when the test ends.
struct Program {
    process: Child,
    output: BufReader<ChildStdout>,
}

impl Program {
    /// Starts it with its standard error in `log`.
    fn start(arguments: &[&str], log: &Path) -> Program {
        let mut process = Command::new(env!("CARGO_BIN_EXE_testbed"))
            .args(arguments)
            .env("CHATSTATE_TTL_SECS", "1")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(File::create(log).unwrap())
            .spawn()
            .unwrap();
        let output = BufReader::new(process.stdout.take().unwrap());
        Program { process, output }
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.output.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }

    /// The rest of the next line, which must start so.
    fn line_behind(&mut self, start: &str) -> String {
        let line = self.line();
        line.strip_prefix(start).unwrap_or_else(|| panic!("{line:?} does not start with {start}")).to_owned()
    }

    /// Sends a signal and waits until it ended by it.
    fn end_by(&mut self, signal: i32) {
        let pid = self.process.id().to_string();
        assert!(
            Command::new("sh")
                .args(["-c", "kill -$0 $1", &signal.to_string(), &pid])
                .status()
                .unwrap()
                .success()
        );
        let ended = wait_until("the program to end", PATIENCE, || Ok(self.process.try_wait()?)).unwrap();
        assert_eq!(ended.signal(), Some(signal));
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // Both fail when it has ended already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// `testbed whatsapp`, ready, and where its server and its control port listen.
fn whatsapp(log: &Path) -> (Program, String, String) {
    let mut program = Program::start(&["whatsapp"], log);
    let ready = program.line_behind("url=");
    let (url, control) = ready.split_once(" control=").unwrap();
    let (url, control) = (url.to_owned(), control.to_owned());
    (program, url, control)
}

/// One command on the control port.
fn ask(control: &mut BufReader<TcpStream>, command: &Value) -> Value {
    writeln!(control.get_mut(), "{command}").unwrap();
    let mut answer = String::new();
    control.read_line(&mut answer).unwrap();
    let answer: Value = serde_json::from_str(&answer).unwrap();
    assert_eq!(answer["ok"], true, "{command}: {answer}");
    answer
}

#[test]
fn a_shell_script_drives_the_control_port_and_ends_the_program() {
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("log");
    let (mut program, url, control) = whatsapp(&log);
    let port = control.strip_prefix("127.0.0.1:").unwrap();
    // As control.rs shows it.
    let script = r#"
        exec 3<>"/dev/tcp/127.0.0.1/$1"
        echo '{"do":"phone","name":"Ani"}' >&3; read -r answer <&3; echo "$answer"
        echo '{"do":"phone","name":"scenario:dance:Budi"}' >&3; read -r answer <&3; echo "$answer"
        echo '{"do":"status"}' >&3; read -r answer <&3; echo "$answer"
    "#;
    let output = Command::new("bash").args(["-euc", script, "bash", port]).output().unwrap();
    let answers = String::from_utf8(output.stdout).unwrap();
    let answers: Vec<Value> = answers.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let [ani, budi, status] = &answers[..] else { panic!("{answers:?}") };
    assert!(ani["ok"] == true && status["ok"] == true, "{answers:?}");
    assert!(budi["ok"] == false && budi["error"].as_str().unwrap().contains("dance"), "{budi}");
    assert_eq!(status["url"], *url);
    assert_eq!(status["phones"][0]["name"], "Ani");

    // An open connection ends with the program, and both ports are free.
    let mut open = TcpStream::connect(&control).unwrap();
    program.end_by(SIGTERM);
    assert_eq!(open.read(&mut [0]).unwrap_or(0), 0);
    let server = url.strip_prefix("ws://").unwrap().strip_suffix("/ws/chat").unwrap();
    for address in [server, &control] {
        assert!(TcpStream::connect(address).is_err(), "{address} still listens");
    }
}

#[test]
fn the_environment_says_how_long_a_typing_state_lives() {
    let folder = tempfile::tempdir().unwrap();
    let (_program, url, control) = whatsapp(&folder.path().join("log"));
    let mut control = BufReader::new(TcpStream::connect(control).unwrap());
    let mut link = |name: &str| {
        let mut client = Baileys::start().unwrap();
        let scan = |qr: &str| {
            ask(&mut control, &json!({ "do": "scan_qr", "name": name, "text": qr }));
            Ok(())
        };
        client.link(&url, name, scan).unwrap();
        ask(&mut control, &json!({ "do": "wait_online", "name": name }));
        let phone = ask(&mut control, &json!({ "do": "phone", "name": name }));
        (client, phone["number"].as_str().unwrap().to_owned())
    };
    let (mut ani, _) = link("Ani");
    let (mut budi, number) = link("Budi");
    ani.command(json!({ "do": "typing", "to": number, "on": true })).unwrap();
    assert_eq!(budi.wait("presence", |_| true).unwrap()["state"], "composing");
    // Ani never says that she paused. Baileys calls whoever paused available.
    let begun = std::time::Instant::now();
    assert_eq!(budi.wait("presence", |_| true).unwrap()["state"], "available");
    assert!(begun.elapsed() < testbed::Options::default().typing_lives, "the usual time");
}

/// Names of the processes that work in a folder or were started for it.
fn processes_of(folder: &str) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let process = entry.path();
        // A process may end at any time; then it is none of these.
        let cwd = fs::read_link(process.join("cwd")).unwrap_or_default();
        let read =
            |name| String::from_utf8_lossy(&fs::read(process.join(name)).unwrap_or_default()).into_owned();
        if cwd.starts_with(folder) || read("cmdline").contains(folder) || read("environ").contains(folder) {
            found.push(read("comm").trim_end().to_owned());
        }
    }
    found
}

#[test]
fn a_supabase_project_leaves_nothing_behind_however_it_ends() {
    let folder = tempfile::tempdir().unwrap();
    let schema = folder.path().join("schema.sql");
    fs::write(&schema, "create table t (x int); grant select on t to service_role;").unwrap();
    for signal in [SIGTERM, SIGKILL] {
        let log = folder.path().join("log");
        let mut program = Program::start(&["supabase", "--schema", schema.to_str().unwrap()], &log);
        let address = program.line_behind("SUPABASE_URL=http://");
        let key = program.line_behind("SUPABASE_SECRET_KEY=");
        assert!(key.starts_with("sb_secret_"), "{key}");
        assert_eq!(program.line_behind("SUPABASE_SERVICE_ROLE_KEY=").split('.').count(), 3);
        let psql = program.line_behind("psql -h ");
        let data = psql.split(' ').next().unwrap();

        let mut stream = TcpStream::connect(&address).unwrap();
        write!(stream, "GET /rest/v1/t HTTP/1.1\r\nHost: test\r\napikey: {key}\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");

        let running = processes_of(data);
        for server in ["postgres", "postgrest"] {
            assert!(running.iter().any(|name| name == server), "{server} is not among {running:?}");
        }
        program.end_by(signal);
        wait_until("the servers to end", PATIENCE, || Ok(processes_of(data).is_empty().then_some(())))
            .unwrap_or_else(|late| panic!("{late}: {:?} of {data}", processes_of(data)));
        assert!(!Path::new(data).exists(), "{data} is left behind");
        assert!(TcpStream::connect(&address).is_err());
    }
}

/// A program that serves, ready, and what its line says.
fn serving(arguments: &[&str], log: &Path) -> (Program, BTreeMap<String, String>) {
    let mut program = Program::start(arguments, log);
    let line = program.line();
    let pairs = line.split(' ').filter_map(|pair| pair.split_once('='));
    let says = pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    (program, says)
}

/// The last four bytes of the answer to a question for the address of `a.example`.
fn ask_dns(server: &str) -> Option<[u8; 4]> {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    // Id 7, recursion desired, one question: A, IN (RFC 1035 §4.1).
    let question = b"\0\x07\x01\0\0\x01\0\0\0\0\0\0\x01a\x07example\0\0\x01\0\x01";
    socket.send_to(question, server).unwrap();
    let mut answer = [0; 512];
    let length = socket.recv(&mut answer).unwrap();
    let records = u16::from_be_bytes([answer[6], answer[7]]);
    (records > 0).then(|| answer[length - 4..length].try_into().unwrap())
}

#[test]
fn a_dns_server_and_a_proxy_are_run_and_driven_by_hand() {
    let folder = tempfile::tempdir().unwrap();
    let state = folder.path().join("state");
    let host = "a.example=157.240.0.60,10.0.0.1";
    let arguments = ["dns", "--host", host, "--state", state.to_str().unwrap()];
    let (mut dns, says) = serving(&arguments, &folder.path().join("dns.log"));
    let names: Vec<&str> = says.keys().map(String::as_str).collect();
    assert_eq!(names, ["control", "dns", "dns_https", "dns_tls"]);
    for (name, value) in &says {
        assert_eq!(fs::read_to_string(state.join(name)).unwrap().trim_end(), value);
    }
    assert!(fs::read_to_string(state.join("ca.pem")).unwrap().starts_with("-----BEGIN CERTIFICATE"));
    assert_eq!(ask_dns(&says["dns"]), Some([10, 0, 0, 1]));
    let mut control = BufReader::new(TcpStream::connect(&says["control"]).unwrap());
    let lie = json!({ "kind": "lie", "addresses": ["192.168.1.1"] });
    ask(
        &mut control,
        &json!({ "do": "dns_fault", "fault": lie, "scope": { "transport": "udp" }, "times": 1 }),
    );
    assert_eq!(ask_dns(&says["dns"]), Some([192, 168, 1, 1]));
    ask(&mut control, &json!({ "do": "dns_forget", "host": "a.example" }));
    assert_eq!(ask_dns(&says["dns"]), None);
    let queries = ask(&mut control, &json!({ "do": "dns_wait_queries", "count": 3, "name": "a.example" }));
    assert_eq!(queries["count"], 3);

    // The proxy stands in front of the control port.
    let (mut proxy, before) = serving(&["proxy", "--to", &says["control"]], &folder.path().join("proxy.log"));
    let mut through = BufReader::new(TcpStream::connect(&before["proxy"]).unwrap());
    assert_eq!(ask(&mut through, &json!({ "do": "status" }))["dns"]["queries"], 3);
    let mut faults = BufReader::new(TcpStream::connect(&before["control"]).unwrap());
    ask(&mut faults, &json!({ "do": "proxy_fault", "fault": { "kind": "refuse" } }));
    assert!(TcpStream::connect(&before["proxy"]).is_err());
    ask(&mut through, &json!({ "do": "status" }));
    ask(&mut faults, &json!({ "do": "proxy_fault", "fault": { "kind": "cut" }, "whom": "open" }));
    assert_eq!(through.read(&mut [0]).unwrap(), 0);
    ask(&mut faults, &json!({ "do": "proxy_clear_faults" }));
    TcpStream::connect(&before["proxy"]).unwrap();
    assert_eq!(ask(&mut faults, &json!({ "do": "status" }))["proxy"]["accepted"], 2);

    for program in [&mut dns, &mut proxy] {
        program.end_by(SIGTERM);
    }
}

#[test]
fn one_program_runs_all_servers_behind_one_control_port() {
    let folder = tempfile::tempdir().unwrap();
    let arguments = ["whatsapp", "--tls", "--dns", "--proxy"];
    let (_program, says) = serving(&arguments, &folder.path().join("log"));
    let mut control = BufReader::new(TcpStream::connect(&says["control"]).unwrap());
    let status = ask(&mut control, &json!({ "do": "status" }));
    assert_eq!(status["url"], says["url"]);
    assert_eq!(status["proxy"]["address"], says["proxy"]);
    assert_eq!(status["dns"]["udp"]["addresses"], json!([says["dns"]]));
    assert_eq!(status["connections"], 0);

    let mut through = TcpStream::connect(&says["proxy"]).unwrap();
    write!(through, "GET / HTTP/1.1\r\n\r\n").unwrap();
    let mut answer = String::new();
    through.read_to_string(&mut answer).unwrap();
    assert!(answer.ends_with("ready\n"), "{answer}");
    assert_eq!(ask(&mut control, &json!({ "do": "status" }))["connections"], 1);
}
