//! The default credential chain's settings, which are AWS's own environment variables.

use std::path::PathBuf;

use aws_credential_types::Credentials;
use http::Uri;

use super::{Variables, variable};
use crate::config::section::Section;
use crate::config::sections::is_loopback;
use crate::credential::aws::keys;

/// What each provider of the default credential chain is told; one that is told nothing is passed
/// over.
#[derive(Debug, Clone)]
pub struct Chain {
    /// The keys that stand in the environment.
    pub environment: Option<Credentials>,
    /// The shared files.
    pub profile: Profile,
    /// A token for which STS gives keys.
    pub web_identity: Option<WebIdentity>,
    /// An agent beside the container that gives keys.
    pub container: Option<Container>,
    /// The instance's metadata service; nothing where it is switched off.
    pub instance: Option<Uri>,
}

/// The shared files, and the profile that counts in them.
#[derive(Debug, Clone)]
pub struct Profile {
    /// Its name.
    pub name: String,
    /// Whether it was asked for by this name, so that it must be there.
    pub is_named: bool,
    /// The file of keys.
    pub credentials: Option<SharedFile>,
    /// The file of other settings.
    pub config: Option<SharedFile>,
}

/// One of the files that AWS's tools share.
#[derive(Debug, Clone)]
pub struct SharedFile {
    /// Where it is.
    pub path: PathBuf,
    /// Whether it was asked for by this path; in a home that is not ours it may be unreadable.
    pub is_named: bool,
}

/// A token of somebody whom AWS trusts, as of an EKS service account.
#[derive(Debug, Clone)]
pub struct WebIdentity {
    /// The token's file, read anew each time.
    pub token_file: PathBuf,
    /// The role whose keys are asked for.
    pub role_arn: String,
    /// The name under which it is taken.
    pub session_name: String,
}

/// An agent beside the container, of ECS or EKS Pod Identity.
#[derive(Debug, Clone)]
pub struct Container {
    /// Where it is asked.
    pub url: Uri,
    /// The file of what it is shown, read anew each time; the environment's token without.
    pub token_file: Option<PathBuf>,
}

/// The agent of ECS.
const CONTAINER: &str = "http://169.254.170.2";
/// Where an agent may be in plain text, beside loopback: those of ECS and of EKS Pod Identity.
const CONTAINERS: [&str; 3] = ["169.254.170.2", "169.254.170.23", "[fd00:ec2::23]"];
/// Where the metadata service may be in plain text, beside loopback.
const INSTANCES: [&str; 2] = ["169.254.169.254", "[fd00:ec2::254]"];
/// The name under which roles are taken, unless another is set.
pub(crate) const SESSION_NAME: &str = "cms-gateway";

pub(super) fn chain(section: &Section, variables: &Variables) -> Option<Chain> {
    let fault = |words| section.fault("", format_args!("the environment has {words}"));
    let environment = environment(variables).map_err(fault).ok();
    let web_identity = web_identity(variables).map_err(fault).ok();
    let container = container(variables).map_err(fault).ok();
    let instance = instance(variables).map_err(fault).ok();
    Some(Chain {
        environment: environment?,
        profile: profile(variables),
        web_identity: web_identity?,
        container: container?,
        instance: instance?,
    })
}

fn environment(variables: &Variables) -> Result<Option<Credentials>, String> {
    let set = |name| variable(variables, name).map(str::to_owned);
    match (set("AWS_ACCESS_KEY_ID"), set("AWS_SECRET_ACCESS_KEY")) {
        (None, None) => Ok(None),
        (Some(id), Some(secret)) => {
            keys::checked(id, secret, set("AWS_SESSION_TOKEN"), None, "environment")
                .map(Some)
                .map_err(|wrong| format!("keys of AWS, but {wrong}"))
        }
        _ => Err("one of AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY without the other; set both \
                  or neither"
            .to_owned()),
    }
}

fn profile(variables: &Variables) -> Profile {
    let set = |name| variable(variables, name);
    let file = |name, usual: &str| {
        let named = set(name).map(|path| SharedFile { path: path.into(), is_named: true });
        named.or_else(|| {
            let path = PathBuf::from(set("HOME")?).join(".aws").join(usual);
            Some(SharedFile { path, is_named: false })
        })
    };
    Profile {
        name: set("AWS_PROFILE").unwrap_or("default").to_owned(),
        is_named: set("AWS_PROFILE").is_some(),
        credentials: file("AWS_SHARED_CREDENTIALS_FILE", "credentials"),
        config: file("AWS_CONFIG_FILE", "config"),
    }
}

fn web_identity(variables: &Variables) -> Result<Option<WebIdentity>, String> {
    let set = |name| variable(variables, name);
    let Some(file) = set("AWS_WEB_IDENTITY_TOKEN_FILE") else { return Ok(None) };
    let role = set("AWS_ROLE_ARN")
        .ok_or("AWS_WEB_IDENTITY_TOKEN_FILE without AWS_ROLE_ARN; set both or neither")?;
    Ok(Some(WebIdentity {
        token_file: file.into(),
        role_arn: role.to_owned(),
        session_name: set("AWS_ROLE_SESSION_NAME").unwrap_or(SESSION_NAME).to_owned(),
    }))
}

fn container(variables: &Variables) -> Result<Option<Container>, String> {
    let set = |name| variable(variables, name);
    let url = if let Some(path) = set("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI") {
        let url = Some(path).filter(|path| path.starts_with('/'));
        url.and_then(|path| format!("{CONTAINER}{path}").parse().ok())
            .ok_or("an AWS_CONTAINER_CREDENTIALS_RELATIVE_URI that is no path")?
    } else if let Some(text) = set("AWS_CONTAINER_CREDENTIALS_FULL_URI") {
        local(text, &CONTAINERS).ok_or(
            "an AWS_CONTAINER_CREDENTIALS_FULL_URI that is neither https nor loopback nor an \
             agent's address (169.254.170.2, 169.254.170.23, [fd00:ec2::23])",
        )?
    } else {
        return Ok(None);
    };
    let token_file = set("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE").map(PathBuf::from);
    Ok(Some(Container { url, token_file }))
}

fn instance(variables: &Variables) -> Result<Option<Uri>, String> {
    let is = |name, text: &str| {
        variable(variables, name).is_some_and(|own| own.eq_ignore_ascii_case(text))
    };
    if is("AWS_EC2_METADATA_DISABLED", "true") {
        return Ok(None);
    }
    let [version_4, version_6] = INSTANCES;
    let is_version_6 = is("AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE", "IPv6");
    let usual = format!("http://{}", if is_version_6 { version_6 } else { version_4 });
    let set = variable(variables, "AWS_EC2_METADATA_SERVICE_ENDPOINT");
    let url = local(set.unwrap_or(&usual), &INSTANCES).ok_or(
        "an AWS_EC2_METADATA_SERVICE_ENDPOINT that is neither https nor loopback nor the \
         service's address (169.254.169.254, [fd00:ec2::254])",
    )?;
    Ok(Some(url))
}

/// A URL over which keys may come: over TLS, or not beyond this machine or its host.
fn local(text: &str, known: &[&str]) -> Option<Uri> {
    let url = text.parse::<Uri>().ok()?;
    let authority = url.authority().filter(|authority| !authority.as_str().contains('@'))?;
    let host = authority.host();
    let is_near = is_loopback(host) || known.contains(&host);
    match url.scheme_str() {
        Some("https") => Some(url),
        Some("http") if is_near => Some(url),
        _ => None,
    }
}
