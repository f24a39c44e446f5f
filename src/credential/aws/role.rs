//! Keys of a role that other keys may take: `AssumeRole` of STS.

use aws_credential_types::Credentials;
use zeroize::Zeroizing;

use super::super::source::SourceError;
use super::call::Call;
use super::sts::{Proof, Sts};

/// A role that a profile names.
pub(super) struct Role {
    pub(super) arn: String,
    pub(super) session_name: String,
    /// What the role's owner may ask for besides.
    pub(super) external_id: Option<Zeroizing<String>>,
}

/// Keys of the role, taken with these.
pub(super) async fn keys(
    role: &Role,
    keys: &Credentials,
    sts: &Sts,
    call: &Call<'_>,
) -> Result<Credentials, SourceError> {
    sts.keys(&form(role), Proof::Keys(keys), &role.arn, call).await
}

fn form(role: &Role) -> Vec<(&str, &str)> {
    let Role { arn, session_name, external_id } = role;
    let mut form = vec![
        ("Action", "AssumeRole"),
        ("Version", "2011-06-15"),
        ("RoleArn", arn),
        ("RoleSessionName", session_name),
    ];
    form.extend(external_id.as_ref().map(|id| ("ExternalId", id.as_str())));
    form
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_profile_says_is_sent() {
        let mut role = Role {
            arn: "arn:role".to_owned(),
            session_name: "named".to_owned(),
            external_id: Some(Zeroizing::new("id".to_owned())),
        };
        let expected = [
            ("Action", "AssumeRole"),
            ("Version", "2011-06-15"),
            ("RoleArn", "arn:role"),
            ("RoleSessionName", "named"),
            ("ExternalId", "id"),
        ];
        assert_eq!(form(&role), expected);
        role.external_id = None;
        assert_eq!(form(&role), &expected[..4]);
    }
}
