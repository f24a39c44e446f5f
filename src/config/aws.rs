//! `aws` in `[credential]`: which secret of AWS Secrets Manager, and by whose right it is read.
//!
//! What AWS's tools take from their own variables is taken from them here too, as `AWS_REGION`, so
//! that the gateway is set up as any other program on AWS is.

pub(crate) mod chain;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use http::Uri;
use rustls::RootCertStore;

pub use self::chain::{Chain, Container, Profile, SharedFile, WebIdentity};
use super::may_be_fetched;
use super::section::{Located, Section};
use super::sections::{MILLISECOND, SECOND, bare_base, trusted};
use crate::credential::Source;
use crate::credential::aws::{SecretsManager as Store, profile};

/// A secret of AWS Secrets Manager.
#[derive(Debug, Clone)]
pub struct SecretsManager {
    /// Its name or ARN.
    pub secret_id: String,
    /// The region that it is in, for which requests are signed.
    pub region: String,
    /// Where Secrets Manager is asked: scheme, host and port.
    pub endpoint: Uri,
    /// Where STS is asked, which gives keys of roles.
    pub sts: Uri,
    /// Whom to trust for AWS's endpoints; the system's roots without.
    pub ca: Option<Arc<RootCertStore>>,
    /// Which of its versions is read, by the label that is moved from one to the next.
    pub version_stage: String,
    /// The member of its JSON that is the user name.
    pub username_key: String,
    /// The member of its JSON that is the password.
    pub password_key: String,
    /// How long all that it takes to read it may take.
    pub timeout: Duration,
    /// Where the right to read it comes from.
    pub chain: Chain,
}

type Variables = BTreeMap<String, String>;

/// The longest ARN or name, in characters, as the API says.
const LONGEST_ID: usize = 2048;
/// The longest staging label, in characters, as the API says.
const LONGEST_STAGE: usize = 256;

/// Reads `aws`, and the variables that AWS's own tools read.
pub(super) fn secrets_manager(
    outer: &mut Section,
    variables: &Variables,
) -> Option<Arc<dyn Source>> {
    let mut section = outer.section("aws");
    let secret_id = section.text("secret_id");
    let secret_id = section.require("secret_id", secret_id, "\"prod/cms\"");
    let secret_id = secret_id.filter(|id| is_id(&section, id));
    let chain = chain::chain(&section, variables);
    let region = region(&mut section, secret_id.as_ref(), variables, chain.as_ref());
    let allow_plaintext = section.boolean("allow_plaintext", false);
    let endpoint = endpoint(&mut section, allow_plaintext, region.as_deref(), variables);
    let ca = trusted(&mut section);
    let version_stage = section.text("version_stage");
    if let Some(stage) = &version_stage
        && (stage.value.len() > LONGEST_STAGE || stage.value.chars().any(char::is_control))
    {
        section.fault_of(stage, "is no staging label, as \"AWSCURRENT\"");
    }
    let username_key = section.text_or("username_key", "username");
    let password_key = section.text_or("password_key", "password");
    if username_key == password_key {
        section.fault("password_key", "names the same member as username_key");
    }
    let timeout = section.duration("timeout", 5 * SECOND, 100 * MILLISECOND..=60 * SECOND);
    let (region, endpoint) = (region?, endpoint?);
    let sts = service(&section, "sts", "STS", &region, allow_plaintext, variables)?;
    let settings = SecretsManager {
        secret_id: secret_id?.value,
        region,
        endpoint,
        sts,
        ca: ca?,
        version_stage: version_stage.map_or_else(|| "AWSCURRENT".to_owned(), |it| it.value),
        username_key,
        password_key,
        timeout,
        chain: chain?,
    };
    match Store::new(settings) {
        Ok(store) => Some(Arc::new(store)),
        Err(error) => {
            section.fault("ca", error);
            None
        }
    }
}

fn is_id(section: &Section, id: &Located<String>) -> bool {
    let is_known = |byte: u8| byte.is_ascii_alphanumeric() || b"/_+=.@-:!".contains(&byte);
    let is_sound = id.value.len() <= LONGEST_ID && id.value.bytes().all(is_known);
    if !is_sound {
        let wrong = "is no secret's name or ARN: those have letters, digits and /_+=.@-";
        section.fault_of(id, wrong);
    }
    is_sound
}

/// The key's, or the ARN's, or that of the environment, or that of the profile.
fn region(
    section: &mut Section,
    secret_id: Option<&Located<String>>,
    variables: &Variables,
    chain: Option<&Chain>,
) -> Option<String> {
    let of_arn = secret_id.and_then(|id| {
        let mut parts = id.value.split(':');
        let is_arn = parts.next() == Some("arn");
        parts.nth(2).filter(|region| is_arn && !region.is_empty()).map(str::to_owned)
    });
    let own = section.text("region");
    if let (Some(own), Some(of_arn)) = (&own, &of_arn)
        && own.value != *of_arn
    {
        section.fault_of(own, format_args!("is not that of the ARN, {of_arn}"));
    }
    let region = own
        .map(|own| own.value)
        .or(of_arn)
        .or_else(|| variable(variables, "AWS_REGION").map(str::to_owned))
        .or_else(|| variable(variables, "AWS_DEFAULT_REGION").map(str::to_owned))
        .or_else(|| chain.and_then(|chain| profile::region(&chain.profile)));
    // It becomes a part of a host's name.
    let is_region = |text: &String| {
        text.len() <= 63
            && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
            && !text.starts_with('-')
            && !text.ends_with('-')
    };
    match region {
        Some(region) if is_region(&region) => Some(region),
        Some(region) => {
            section.fault("region", format_args!("{region:?} is no region, as \"eu-central-1\""));
            None
        }
        None => section.require(
            "region",
            None,
            "\"eu-central-1\", or set AWS_REGION, or name the secret by its ARN",
        ),
    }
}

fn endpoint(
    section: &mut Section,
    allow_plaintext: bool,
    region: Option<&str>,
    variables: &Variables,
) -> Option<Uri> {
    let example = "a URL, as \"https://secretsmanager.eu-central-1.amazonaws.com\"";
    if section.has("endpoint") {
        let url = section.parsed::<Uri>("endpoint", example)?;
        bare_base(section, &url, allow_plaintext)?;
        return Some(url.value);
    }
    service(section, "secretsmanager", "SECRETS_MANAGER", region?, allow_plaintext, variables)
}

/// A service's endpoint: the environment's, or else that of the region.
fn service(
    section: &Section,
    name: &str,
    suffix: &str,
    region: &str,
    allow_plaintext: bool,
    variables: &Variables,
) -> Option<Uri> {
    let own = format!("AWS_ENDPOINT_URL_{suffix}");
    let is_on =
        |key| variable(variables, key).is_some_and(|text: &str| text.eq_ignore_ascii_case("true"));
    let set = [own.as_str(), "AWS_ENDPOINT_URL"]
        .into_iter()
        .filter(|_| !is_on("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS"))
        .find_map(|key| Some((key, variable(variables, key)?)));
    let Some((key, text)) = set else {
        // The usual STS of GovCloud is the one with validated cryptography.
        let is_apart =
            is_on("AWS_USE_FIPS_ENDPOINT") && !(name == "sts" && region.starts_with("us-gov-"));
        let fips = if is_apart { "-fips" } else { "" };
        return format!("https://{name}{fips}.{region}.{}", domain(region)).parse().ok();
    };
    let url = text.parse::<Uri>().ok().filter(|url| {
        may_be_fetched(url, allow_plaintext)
            && url.path_and_query().is_none_or(|path| path.as_str() == "/")
    });
    if url.is_none() {
        section.fault(
            "endpoint",
            format_args!(
                "the environment's {key} must be https:// (or http:// to loopback, or with \
                 allow_plaintext = true) and host and port alone"
            ),
        );
    }
    url
}

/// The domain of a region's endpoints; those of isolated partitions have to be named.
fn domain(region: &str) -> &'static str {
    match region.split('-').next() {
        Some("cn") => "amazonaws.com.cn",
        Some("eusc") => "amazonaws.eu",
        _ => "amazonaws.com",
    }
}

/// A variable that is set; one that is empty counts as not set, as AWS's tools have it.
fn variable<'a>(variables: &'a Variables, name: &str) -> Option<&'a str> {
    variables.get(name).map(|text| text.trim()).filter(|text| !text.is_empty())
}

#[cfg(test)]
pub(crate) mod tests;
