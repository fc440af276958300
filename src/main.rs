//! Parse, build, run, exit code.

use std::io::{IsTerminal as _, Write as _, stderr, stdin, stdout};
use std::path::Path;
use std::process::ExitCode;

use bot_kjp::app::{self, AppError, Purpose};
use bot_kjp::cli::exit_code::ExitCode as Code;
use bot_kjp::cli::{Surroundings, Task, execute, pair, wording};
use bot_kjp::config::environment_file::{self, EnvironmentFile};
use bot_kjp::{logging, outlet, supabase};

fn main() -> ExitCode {
    // What the service gets from systemd or the init script, for commands that root types on the box.
    let service = EnvironmentFile::read(Path::new(environment_file::PATH));
    let mut surroundings = Surroundings {
        variable: &|name| std::env::var_os(name).or_else(|| service.get(name)),
        schema: supabase::SCHEMA,
        stdin: &mut stdin().lock(),
        stdout: &mut stdout(),
        terminal: stdout().is_terminal(),
        stderr: &mut stderr(),
    };
    execute(std::env::args_os().skip(1), &mut surroundings, start).into()
}

fn start(task: Task) -> Code {
    let (config, purpose) = match task {
        Task::Run(config) => (config, Purpose::Serve),
        Task::Pair(config, phone) => (config, Purpose::Pair { phone }),
    };
    logging::start(&config.settings.log);
    if let Purpose::Pair { .. } = purpose {
        match pair::as_owner(&config.settings.data.folder) {
            Ok(None) => {}
            Ok(Some(code)) => return code,
            Err(error) => return failed(&error, Code::of_io(&error.cause)),
        }
    }
    for warning in &config.warnings {
        log::warn!("config: {warning}");
    }
    let ended = app::run(&config, purpose);
    logging::end();
    match ended {
        Ok(farewell) => {
            // Nobody may be listening any more.
            let _ = writeln!(outlet::out(), "{}", farewell.sentence());
            farewell.exit_code()
        }
        Err(error @ AppError::Volatile(_)) => told(&error, Some(wording::VOLATILE), exit_code(&error)),
        Err(error) => failed(&error, exit_code(&error)),
    }
}

fn failed(error: &dyn std::fmt::Display, code: Code) -> Code {
    told(error, wording::summary(code), code)
}

fn told(error: &dyn std::fmt::Display, summary: Option<&str>, code: Code) -> Code {
    let _ = writeln!(outlet::error(), "bot-kjp: {error}");
    if let Some(summary) = summary {
        let _ = writeln!(outlet::error(), "{summary}");
    }
    code
}

/// What an error means for whoever started the bot.
fn exit_code(error: &AppError) -> Code {
    match error {
        AppError::Ledger(error) => Code::of_ledger(error),
        AppError::Session(_) => Code::DamagedDatabase,
        AppError::Endpoint(_) | AppError::Tls(_) | AppError::Supabase(_) | AppError::Volatile(_) => {
            Code::Configuration
        }
        AppError::Supervisor(_) => Code::Temporary,
        AppError::Reactor(_) | AppError::Signals(_) | AppError::Connection(_) | AppError::LastCommit(_) => {
            Code::InputOutput
        }
    }
}
