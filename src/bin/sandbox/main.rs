//! An identity provider, a reference CMS and the gateway between them, all on loopback: to see
//! what the gateway does, and to try it.

mod cms;
mod http;
mod identity_provider;
mod tour;

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Parser;
use cms_gateway::config;
use cms_gateway::server::Server;
use cms_gateway::systemd::Listeners;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

use self::cms::ReferenceCms;
use self::identity_provider::IdentityProvider;

/// An identity provider, a reference CMS and the gateway between them, on loopback.
#[derive(Debug, Parser)]
#[command(name = "sandbox", version)]
struct Arguments {
    /// Exit after the tour: 0 if every step went as it should
    #[arg(long)]
    once: bool,
    /// The gateway's port; 0 takes any that is free
    #[arg(long, value_name = "PORT", default_value_t = 0)]
    gateway_port: u16,
    /// The port of the gateway's admin endpoints
    #[arg(long, value_name = "PORT", default_value_t = 0)]
    admin_port: u16,
    /// The identity provider's port
    #[arg(long, value_name = "PORT", default_value_t = 0)]
    identity_provider_port: u16,
    /// The CMS's port
    #[arg(long, value_name = "PORT", default_value_t = 0)]
    cms_port: u16,
}

/// The three parties.
struct Sandbox {
    provider: IdentityProvider,
    cms: ReferenceCms,
    gateway: Server,
    folder: PathBuf,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let done = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| error.to_string())
        .and_then(|runtime| runtime.block_on(run(&arguments)));
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(error) => {
            let _ = writeln!(io::stderr(), "sandbox: {error}");
            ExitCode::from(1)
        }
    }
}

async fn run(arguments: &Arguments) -> Result<bool, String> {
    let folder = std::env::temp_dir().join(format!("cms-gateway-{}", std::process::id()));
    let sandbox = start(arguments, folder.clone()).await;
    let went_well = match sandbox {
        Err(error) => Err(error),
        Ok(sandbox) => {
            // Before the tour says how to end it.
            let end = (!arguments.once).then(end).transpose().map_err(|error| error.to_string())?;
            let went_well = tour::run(&sandbox, arguments.once).await;
            if let Some(end) = end {
                end.await;
            }
            sandbox.gateway.stop().await;
            went_well
        }
    };
    let _ = fs::remove_dir_all(&folder);
    went_well
}

async fn start(arguments: &Arguments, folder: PathBuf) -> Result<Sandbox, String> {
    let provider = listen("--identity-provider-port", arguments.identity_provider_port).await?;
    let provider = IdentityProvider::start(provider).map_err(|error| error.to_string())?;
    let cms = listen("--cms-port", arguments.cms_port).await?;
    let cms = ReferenceCms::start(cms).map_err(|error| error.to_string())?;
    let file = configure(&folder, arguments, &provider, &cms)
        .map_err(|error| format!("{}: {error}", folder.display()))?;
    let config = config::load(&file).map_err(|faults| faults.to_string())?;
    let gateway =
        Server::start(&config, Listeners::default()).await.map_err(|error| error.to_string())?;
    Ok(Sandbox { provider, cms, gateway, folder })
}

async fn listen(option: &str, port: u16) -> Result<TcpListener, String> {
    TcpListener::bind(("127.0.0.1", port)).await.map_err(|error| {
        format!("{option}: port {port} on 127.0.0.1 can't be had ({error}); choose another")
    })
}

/// Writes the gateway's configuration and the secrets that it names.
fn configure(
    folder: &Path,
    arguments: &Arguments,
    provider: &IdentityProvider,
    cms: &ReferenceCms,
) -> io::Result<PathBuf> {
    fs::DirBuilder::new().mode(0o700).create(folder)?;
    let secret = |name: &str, text: &str| {
        let mut options = fs::OpenOptions::new();
        let mut file = options.write(true).create_new(true).mode(0o600).open(folder.join(name))?;
        file.write_all(text.as_bytes())
    };
    secret("username", cms::ACCOUNT.0)?;
    secret("password", cms::ACCOUNT.1)?;
    let Arguments { gateway_port, admin_port, .. } = arguments;
    let text = format!(
        r#"[listen]
api   = "127.0.0.1:{gateway_port}"
admin = "127.0.0.1:{admin_port}"

[[issuers]]
issuer      = "{issuer}"
audiences   = ["{audience}"]
jwks        = {{ url = "{jwks}" }}
algorithms  = ["ES256", "RS256"]
roles_claim = "roles"

[roles.campaign-supervisor]
permissions = ["lead-users:assign", "lead-users:unassign"]
campaigns   = "any"

[roles.north-dialer]
permissions = ["lead-users:assign"]
campaigns   = [1, 2]

[upstream]
url = "{cms}"

[credential]
source   = "file"
username = "username"
password = "password"
refresh  = "1s"

[audit]
directory = "audit"
instance  = "sandbox"
"#,
        issuer = provider.issuer(),
        audience = identity_provider::AUDIENCE,
        jwks = provider.jwks_url(),
        cms = cms.url(),
    );
    let file = folder.join("gateway.toml");
    fs::write(&file, text)?;
    Ok(file)
}

/// Waits for SIGTERM or SIGINT, which it catches from now on.
fn end() -> io::Result<impl Future<Output = ()>> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}
