//! `testbed` as a program: what a shell script sees of it, and that nothing stays behind.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
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
    assert!(answers.iter().all(|answer| answer["ok"] == true), "{answers:?}");
    assert_ne!(ani["number"], budi["number"]);
    assert_eq!(status["url"], *url);
    assert_eq!(status["phones"][0]["name"], "Ani");
    let log = fs::read_to_string(log).unwrap();
    let refusal = log.lines().find(|line| line.contains("dance")).unwrap();
    assert!(refusal.contains("ERROR"), "{refusal}");

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
