use super::super::section::section;
use super::*;

const CONFIG: &str = "\
[default]
aws_access_key_id = AKIDDEFAULT
aws_secret_access_key = hidden
[profile role]
role_arn = arn:role
role_session_name = named
external_id = hidden-id
source_profile = default
mfa = no
[profile chain]
role_arn = arn:chain
source_profile = role
[profile self]
role_arn = arn:self
source_profile = self
aws_access_key_id = AKIDSELF
aws_secret_access_key = hidden
[profile of-self]
role_arn = arn:of-self
source_profile = self
[profile instance]
role_arn = arn:instance
credential_source = Ec2InstanceMetadata
[profile container]
role_arn = arn:container
credential_source = EcsContainer
[profile environment]
role_arn = arn:environment
credential_source = Environment
[profile program]
role_arn = arn:program
source_profile = program
credential_process = /bin/keys hidden
aws_access_key_id = AKIDPROGRAM
aws_secret_access_key = hidden
[profile of-program]
role_arn = arn:of-program
source_profile = program
[profile web]
role_arn = arn:web
web_identity_token_file = /token
source_profile = default
[profile of-web]
role_arn = arn:of-web
source_profile = web
[profile a]
role_arn = arn:a
source_profile = b
[profile b]
role_arn = arn:b
source_profile = a
[profile astray]
role_arn = arn:astray
source_profile = nobody
[profile poor]
role_arn = arn:poor
source_profile = nothing
[profile nothing]
output = json
[profile bare]
role_arn = arn:bare
[profile two]
role_arn = arn:two
source_profile = default
credential_source = Environment
[profile other]
role_arn = arn:other
credential_source = Somewhere
[profile mixed]
role_arn = arn:mixed
credential_source = Environment
web_identity_token_file = /token
[profile tokenless]
web_identity_token_file = /token
[profile person]
role_arn = arn:person
source_profile = default
mfa_serial = arn:mfa
[profile sso]
sso_session = corp
aws_access_key_id = AKIDSSO
aws_secret_access_key = hidden
[profile old-sso]
sso_start_url = https://example.com
credential_process = /bin/keys
[profile login]
login_session = arn:login
[profile of-sso]
role_arn = arn:of-sso
source_profile = login
[profile broken]
aws_access_key_id = AKID BROKEN
aws_secret_access_key = hidden
";

fn found(name: &str) -> Result<Option<Way>, String> {
    find(name, |name| section(CONFIG, name, true))
}

/// The base, and the roles' ARNs in the order in which they are taken.
fn shown(name: &str) -> (String, Vec<String>) {
    let Way { base, roles } = found(name).ok().flatten().unwrap();
    let base = match base {
        Base::Keys(keys) => keys.access_key_id().to_owned(),
        Base::Process(command) => command.to_string(),
        Base::WebIdentity(identity) => format!("{} {}", identity.role_arn, identity.session_name),
        Base::Environment => "environment".to_owned(),
        Base::Container => "container".to_owned(),
        Base::Instance => "instance".to_owned(),
    };
    (base, roles.into_iter().map(|role| role.arn).collect())
}

#[test]
fn a_way_goes_as_the_sdk_for_rust_goes() {
    for (name, base, roles) in [
        ("default", "AKIDDEFAULT", &[][..]),
        ("role", "AKIDDEFAULT", &["arn:role"]),
        ("chain", "AKIDDEFAULT", &["arn:role", "arn:chain"]),
        ("self", "AKIDSELF", &["arn:self"]),
        ("of-self", "AKIDSELF", &["arn:of-self"]),
        ("instance", "instance", &["arn:instance"]),
        ("container", "container", &["arn:container"]),
        ("environment", "environment", &["arn:environment"]),
        ("program", "/bin/keys hidden", &["arn:program"]),
        ("of-program", "AKIDPROGRAM", &["arn:of-program"]),
        ("web", "arn:web cms-gateway", &[]),
        ("of-web", "arn:web cms-gateway", &["arn:of-web"]),
    ] {
        assert_eq!(shown(name), (base.to_owned(), roles.iter().map(|it| it.to_string()).collect()));
    }
    let role = found("role").ok().flatten().unwrap().roles.pop().unwrap();
    assert_eq!(
        (role.session_name.as_str(), role.external_id.unwrap().as_str()),
        ("named", "hidden-id")
    );
    for name in ["nothing", "nobody"] {
        assert!(found(name).is_ok_and(|way| way.is_none()), "{name}");
    }
}

#[test]
fn a_way_that_is_none_is_told() {
    for (name, words) in [
        ("a", "in a circle: a, b, a"),
        ("astray", "profile \"astray\": its source_profile \"nobody\" is in neither file"),
        ("poor", "profile \"nothing\": it has no keys"),
        ("bare", "role_arn needs source_profile"),
        ("two", "keep one"),
        ("other", "none of Environment, EcsContainer"),
        ("mixed", "keep one"),
        ("tokenless", "without role_arn"),
        ("person", "mfa_serial"),
        ("sso", "sso_session"),
        ("old-sso", "sso_start_url"),
        ("login", "credential_process = aws configure export-credentials --format process"),
        ("of-sso", "profile \"login\": it has login_session"),
        ("broken", "access key id"),
    ] {
        let told = found(name).err().unwrap();
        assert!(told.contains(words) && !told.contains("hidden"), "{name}: {told}");
    }
}

#[test]
fn a_way_has_an_end() {
    let role = |number: usize| {
        let settings =
            [("role_arn", "arn".to_owned()), ("source_profile", (number + 1).to_string())];
        settings.map(|(key, value)| (key.to_owned(), Zeroizing::new(value))).into()
    };
    let told = find("0", |name| Some(role(name.parse().unwrap()))).err().unwrap();
    assert!(told.contains("more than 8 profiles"), "{told}");
}
