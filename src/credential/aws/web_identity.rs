//! Keys that STS gives for a token of somebody whom AWS trusts, as of an EKS service account.
//!
//! `AssumeRoleWithWebIdentity` takes no signature: the token is the proof.

use aws_credential_types::Credentials;

use super::super::source::SourceError;
use super::call::Call;
use super::files;
use super::sts::{Proof, Sts};
use crate::config::aws::WebIdentity;

/// The longest token that STS takes, in characters.
const LONGEST_TOKEN: usize = 20_000;

/// Keys of the role.
pub(super) async fn keys(
    settings: &WebIdentity,
    sts: &Sts,
    call: &Call<'_>,
) -> Result<Credentials, SourceError> {
    let WebIdentity { token_file, role_arn, session_name } = settings;
    let token = files::read(token_file, call).await?;
    let token = token.trim();
    if token.is_empty() || token.len() > LONGEST_TOKEN {
        let shown = token_file.display();
        return Err(SourceError::Malformed(format!("{shown} holds no web identity token")));
    }
    let form = [
        ("Action", "AssumeRoleWithWebIdentity"),
        ("Version", "2011-06-15"),
        ("RoleArn", role_arn),
        ("RoleSessionName", session_name),
        ("WebIdentityToken", token),
    ];
    sts.keys(&form, Proof::Token, role_arn, call).await
}
