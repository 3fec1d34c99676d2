//! The `sluice` program: arguments, and what each command does with them. The server itself is [`sluice::server`].
#![allow(clippy::disallowed_methods, reason = "an I/O room: tokens are made out for the time of day")]

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
    time::{Duration, SystemTime},
};

use clap::{Arg, ArgAction, ArgMatches, Args, Command, FromArgMatches, Parser, Subcommand};
use sluice::{
    bench,
    config::{Config, ConfigErrors, Kind, SETTINGS, Sources},
    server::{self, VERSION},
};
use sluice_signaling::{
    priority::Priority,
    token::{Authenticator, Claims, OneOrMany, Right, Rights},
};

/// Thousands of requests that wait for one part are answered at once, by all threads: with the C library's allocator a quarter of that is
/// spent on its locks. Without transparent huge pages (in `Cargo.toml`), which would triple what the first viewers cost.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The configuration is wrong, or the arguments are (clap's own code for that).
const EXIT_USAGE: u8 = 2;

#[derive(Parser)]
#[command(name = "sluice", version = VERSION, about, args_conflicts_with_subcommands = true)]
struct Cli {
    #[command(subcommand)]
    command: Option<Commands>,
    #[command(flatten)]
    serve: ServeArguments,
}

#[derive(Subcommand)]
enum Commands {
    /// Run the server (the default)
    Serve(ServeArguments),
    /// Print a signed token
    Token(TokenArguments),
    /// Say what is wrong with a configuration: key, line, what is expected
    Check(CheckArguments),
    /// Load tests, against this server or another
    Bench {
        #[command(subcommand)]
        load: BenchCommands,
    },
}

#[derive(Subcommand)]
enum BenchCommands {
    Whep(bench::whep::Args),
    Hls(bench::hls::Args),
}

#[derive(Args)]
struct ServeArguments {
    /// Settings file (TOML); without one the defaults serve
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Print one line of JSON with the addresses listened on to standard output, instead of the banner
    #[arg(long)]
    print_addresses: bool,
    #[command(flatten)]
    settings: SettingFlags,
}

#[derive(Args)]
struct CheckArguments {
    /// Settings file (TOML)
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
}

#[derive(Args)]
struct TokenArguments {
    /// Stream it is for, or a glob (room-*); several times for several
    #[arg(long, required = true)]
    stream: Vec<String>,
    /// What it allows: publish, subscribe or admin (admin of the whole server: with --stream '*'); several times for several
    #[arg(long, required = true)]
    can: Vec<Right>,
    /// How long it is valid, such as 30s, 1h or 7d
    #[arg(long, value_parser = humantime::parse_duration)]
    ttl: Duration,
    /// Whom it is made out for
    #[arg(long)]
    sub: Option<String>,
    /// Which of a stream's publishers the bearer is, primary or backup; otherwise it may ask to be either
    #[arg(long)]
    priority: Option<Priority>,
    /// Page origin that may use it (https://example.org); several times for several
    #[arg(long)]
    origin: Vec<String>,
    /// CIDR range that may use it; several times for several
    #[arg(long)]
    ip: Vec<String>,
    /// Settings file (TOML) with auth.hs256_secret; SLUICE_AUTH__HS256_SECRET does as well
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

/// A flag for every setting but secrets: `--http-listen`, and its key as another name (`--http.listen`).
struct SettingFlags(Vec<(&'static str, String)>);

impl Args for SettingFlags {
    fn augment_args(command: Command) -> Command {
        let settings = SETTINGS.iter().filter(|setting| !matches!(setting.kind, Kind::Secret | Kind::Secrets));
        command.args(settings.map(|setting| {
            Arg::new(setting.key)
                .long(setting.flag())
                .alias(setting.key)
                .value_name("VALUE")
                .action(ArgAction::Set)
                .help_heading("Settings")
                .help(format!("{}: {}", setting.key, setting.expected))
        }))
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for SettingFlags {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let given = |key| matches.try_get_one::<String>(key).ok().flatten().cloned();
        Ok(Self(SETTINGS.iter().filter_map(|setting| Some((setting.key, given(setting.key)?))).collect()))
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    match cli.command.unwrap_or(Commands::Serve(cli.serve)) {
        Commands::Serve(arguments) => serve(arguments),
        Commands::Token(arguments) => token(arguments),
        Commands::Check(arguments) => check(&arguments.config),
        Commands::Bench { load: BenchCommands::Whep(arguments) } => {
            bench::whep::run(&arguments).unwrap_or_else(|error| failed(&error, 1))
        }
        Commands::Bench { load: BenchCommands::Hls(arguments) } => {
            bench::hls::run(&arguments).unwrap_or_else(|error| failed(&error, 1))
        }
    }
}

fn serve(arguments: ServeArguments) -> ExitCode {
    let ServeArguments { config: file, print_addresses, settings } = arguments;
    let load = move || load(file.as_deref(), &settings.0);
    let config = match load() {
        Ok(config) => config,
        Err(error) => return failed(&error, EXIT_USAGE),
    };
    let options = server::RunOptions { config, reload: Box::new(move || load().map_err(Into::into)), print_addresses };
    match server::run(options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => failed(&error, 1),
    }
}

fn check(file: &Path) -> ExitCode {
    match load(Some(file), &[]) {
        Ok(_) => {
            println!("{}: nothing wrong", file.display());
            ExitCode::SUCCESS
        }
        Err(error) => failed(&error, EXIT_USAGE),
    }
}

fn token(arguments: TokenArguments) -> ExitCode {
    let config = match load(arguments.config.as_deref(), &[]) {
        Ok(config) => config,
        Err(error) => return failed(&error, EXIT_USAGE),
    };
    let Some(secret) = config.auth.hs256_secret else {
        let what = "there is no secret to sign with: set auth.hs256_secret in the file that --config names, or \
                    SLUICE_AUTH__HS256_SECRET in the environment, to the server's";
        return failed(&what, EXIT_USAGE);
    };
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let some = |texts: Vec<String>| (!texts.is_empty()).then_some(OneOrMany(texts));
    let claims = Claims {
        exp: now.saturating_add(arguments.ttl).as_secs(),
        iat: Some(now.as_secs()),
        sub: arguments.sub,
        stream: OneOrMany(arguments.stream),
        can: Rights(arguments.can),
        origin: some(arguments.origin),
        ip: some(arguments.ip),
        priority: arguments.priority,
        ..Claims::default()
    };
    let authenticator = match Authenticator::hs256(secret.as_bytes()) {
        Ok(authenticator) => authenticator,
        Err(error) => return failed(&error, EXIT_USAGE),
    };
    match authenticator.sign(&claims) {
        Ok(token) => {
            println!("{token}");
            ExitCode::SUCCESS
        }
        Err(error) => failed(&error, 1),
    }
}

/// Why there are no settings.
#[derive(Debug, thiserror::Error)]
enum LoadError {
    #[error("{}: cannot read it: {source}", file.display())]
    File { file: PathBuf, source: std::io::Error },
    #[error(transparent)]
    Config(#[from] ConfigErrors),
}

fn load(file: Option<&Path>, flags: &[(&'static str, String)]) -> Result<Config, LoadError> {
    let read = |file: &Path| match std::fs::read_to_string(file) {
        Ok(text) => Ok((file.display().to_string(), text)),
        Err(source) => Err(LoadError::File { file: file.to_owned(), source }),
    };
    let file = file.map(read).transpose()?;
    // A variable that is not Unicode cannot be one of ours.
    let environment = std::env::vars_os()
        .filter_map(|(name, text)| Some((name.into_string().ok()?, text.into_string().ok()?)))
        .collect();
    Ok(Config::load(&Sources { file, environment, flags: flags.to_vec() })?)
}

fn failed(error: &dyn std::fmt::Display, code: u8) -> ExitCode {
    eprintln!("{error}");
    ExitCode::from(code)
}
