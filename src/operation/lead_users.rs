//! `PUT /cms/configuration/voice/campaignLeadUserMapping`: assigns users to a lead of a campaign,
//! or takes them off it.

use std::fmt::{self, Display};

use bytes::Bytes;
use http::Method;
use serde::de::{Error, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value, json};

use super::body::{self, BodyFault, Cursor, Reader, Strictly, refused};
use super::{Change, Description, Echo, Facts, Operation, Target};
use crate::encode::{Encode, object};
use crate::policy::Permission;

const ASSIGN: Permission = Permission::named("lead-users:assign");
const UNASSIGN: Permission = Permission::named("lead-users:unassign");

pub(super) static OPERATION: Operation = Operation {
    name: "lead-users",
    method: Method::PUT,
    path: "/cms/configuration/voice/campaignLeadUserMapping",
    permissions: &[ASSIGN, UNASSIGN],
    decode: |bytes, most_users| match LeadUsersChange::decode(bytes, most_users) {
        Ok(change) => Ok(Box::new(change)),
        Err(fault) => Err(fault),
    },
    restore: |target, assigned, unassigned| {
        let user = |name: &String| UserId(name.clone());
        let recorded = LeadUsersChange {
            lead_id: target.lead,
            campaign_id: target.campaign,
            assigned_user_ids: assigned.iter().map(user).collect(),
            unassigned_user_ids: unassigned.iter().map(user).collect(),
        };
        recorded.encode().into()
    },
    description: Description {
        summary: "Assigns users to a lead of a campaign, or takes them off it.",
        details: "Changes take effect at once. Assigning who is assigned, or taking off who is \
                  not, changes nothing and succeeds. No user is in both lists, and one list at \
                  least is not empty.",
        request: schema,
        example: r#"{"leadId":2,"campaignId":1,"assignedUserIds":["anav_agent"],"unassignedUserIds":["exe_gs","madhur1"]}"#,
        answer: answer_schema,
        answer_example: r#"{"campaignLeadId":1,"assignedCampaignUserIds":[1],"unassignedCampaignUserIds":[3817,3802],"leadId":2,"campaignId":1,"assignedUserIds":["anav_agent"],"unassignedUserIds":["madhur1","exe_gs"]}"#,
    },
};

/// As [`LeadUsersChange::decode`] reads it. That no user is in both lists, nor more than `most_users`
/// in both together, is nothing that a schema can say.
fn schema(most_users: usize) -> Value {
    let id = json!({"type": "integer", "minimum": 1, "maximum": i32::MAX});
    let user = json!({
        "type": "string", "minLength": 1, "maxLength": UserId::LONGEST,
        "pattern": "^[^\\u0000-\\u001f\\u007f-\\u009f]*$",
    });
    let users = json!({
        "type": "array", "items": user, "uniqueItems": true, "maxItems": most_users,
    });
    json!({
        "type": "object",
        "additionalProperties": false,
        "required": [LEAD, CAMPAIGN, ASSIGNED, UNASSIGNED],
        "properties": {LEAD: id, CAMPAIGN: id, ASSIGNED: users, UNASSIGNED: users},
        "anyOf": [
            {"properties": {ASSIGNED: {"minItems": 1}}},
            {"properties": {UNASSIGNED: {"minItems": 1}}},
        ],
    })
}

/// As [`Answer`] has it.
fn answer_schema() -> Value {
    let (integer, text) = (json!({"type": "integer"}), json!({"type": "string"}));
    let (integers, texts) =
        (json!({"type": "array", "items": integer}), json!({"type": "array", "items": text}));
    let properties = json!({
        "campaignLeadId": integer,
        "assignedCampaignUserIds": integers,
        "unassignedCampaignUserIds": integers,
        LEAD: integer,
        CAMPAIGN: integer,
        ASSIGNED: texts,
        UNASSIGNED: texts,
    });
    let required: Vec<&String> = properties.as_object().into_iter().flat_map(Map::keys).collect();
    json!({"type": "object", "required": required, "properties": properties})
}

/// Who is to be assigned to a lead and who taken off it.
///
/// Only [`LeadUsersChange::decode`] gives one away, and it holds what the operation promises: positive
/// 32-bit ids, at least one user, no user twice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeadUsersChange {
    lead_id: i32,
    campaign_id: i32,
    assigned_user_ids: Vec<UserId>,
    unassigned_user_ids: Vec<UserId>,
}

/// How large most bodies are at the most, in bytes.
const BODY: usize = 256;

/// The name of a user of the CMS: 1 to 255 characters, none of them a control character.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UserId(String);

impl LeadUsersChange {
    /// Reads a body, which may name `most_users` users at the most.
    ///
    /// # Errors
    ///
    /// The first fault, with its place.
    pub fn decode(bytes: &[u8], most_users: usize) -> Result<Self, BodyFault> {
        let cursor = Cursor::default();
        body::read(bytes, &cursor, ChangeReader { cursor: &cursor, most_users })
    }
}

impl Change for LeadUsersChange {
    fn operation(&self) -> &'static Operation {
        &OPERATION
    }

    fn permissions(&self) -> Vec<Permission> {
        let assign = (!self.assigned_user_ids.is_empty()).then_some(ASSIGN);
        let unassign = (!self.unassigned_user_ids.is_empty()).then_some(UNASSIGN);
        assign.into_iter().chain(unassign).collect()
    }

    fn facts(&self) -> Facts<'_> {
        Facts {
            target: Target { campaign: self.campaign_id, lead: self.lead_id },
            assigned: &self.assigned_user_ids,
            unassigned: &self.unassigned_user_ids,
        }
    }

    fn encode(&self) -> Bytes {
        let mut body = Vec::with_capacity(BODY);
        object!(&mut body, {
            "leadId": self.lead_id,
            "campaignId": self.campaign_id,
            "assignedUserIds": self.assigned_user_ids[..],
            "unassignedUserIds": self.unassigned_user_ids[..],
        });
        body.into()
    }

    fn echo(&self, body: &[u8]) -> Echo {
        let whole = parse::<Answer>(body);
        let is_whole = whole.is_ok();
        // Whatever else is missing in it, an answer to another change is one.
        let ids = whole.map(Ids::from).or_else(|_| parse::<Ids>(body));
        let Ok(ids) = ids else { return Echo::Missing };
        let pairs =
            [(LEAD, self.lead_id, ids.lead_id), (CAMPAIGN, self.campaign_id, ids.campaign_id)];
        let others: Vec<String> = pairs
            .into_iter()
            .filter_map(|(name, asked, answered)| Some((name, asked, answered?)))
            .filter(|(_, asked, answered)| i64::from(*asked) != *answered)
            .map(|(name, asked, answered)| format!("{name} {answered} instead of {asked}"))
            .collect();
        match (others.is_empty(), is_whole) {
            (false, _) => Echo::Contradicts(others.join(", ")),
            (true, true) => Echo::Agrees,
            (true, false) => Echo::Missing,
        }
    }
}

/// A text that is looked at once is read faster; what is not looked at needs to be none.
fn parse<'a, T: Deserialize<'a>>(body: &'a [u8]) -> serde_json::Result<T> {
    match str::from_utf8(body) {
        Ok(text) => serde_json::from_str(text),
        Err(_) => serde_json::from_slice(body),
    }
}

/// Which lead and campaign an answer is about.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Ids {
    lead_id: Option<i64>,
    campaign_id: Option<i64>,
}

impl From<Answer> for Ids {
    fn from(answer: Answer) -> Self {
        Self { lead_id: Some(answer.lead_id), campaign_id: Some(answer.campaign_id) }
    }
}

/// The CMS's answer, as far as it must be there; more members may stand beside these. Of most, only
/// the kind matters.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Answer {
    lead_id: i64,
    campaign_id: i64,
    #[serde(rename = "campaignLeadId")]
    _campaign_lead_id: Integer,
    #[serde(rename = "assignedCampaignUserIds")]
    _assigned_campaign_user_ids: Vec<Integer>,
    #[serde(rename = "unassignedCampaignUserIds")]
    _unassigned_campaign_user_ids: Vec<Integer>,
    #[serde(rename = "assignedUserIds")]
    _assigned_user_ids: Vec<Text>,
    #[serde(rename = "unassignedUserIds")]
    _unassigned_user_ids: Vec<Text>,
}

/// That an integer stands there; a list of them takes no memory.
struct Integer;

impl<'de> Deserialize<'de> for Integer {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        i64::deserialize(deserializer).map(|_| Self)
    }
}

/// That a string stands there.
struct Text;

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(Self)
    }
}

impl Visitor<'_> for Text {
    type Value = Self;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a string")
    }

    fn visit_str<E: Error>(self, _: &str) -> Result<Self, E> {
        Ok(self)
    }
}

const LEAD: &str = "leadId";
const CAMPAIGN: &str = "campaignId";
const ASSIGNED: &str = "assignedUserIds";
const UNASSIGNED: &str = "unassignedUserIds";

struct ChangeReader<'a> {
    cursor: &'a Cursor,
    most_users: usize,
}

impl<'de> Reader<'de> for ChangeReader<'_> {
    type Value = LeadUsersChange;
    const EXPECTED: &'static str = "an object";

    fn object<A: MapAccess<'de>>(self, mut access: A) -> Result<LeadUsersChange, A::Error> {
        let cursor = self.cursor;
        let (mut lead, mut campaign) = (None, None);
        let (mut assigned, mut unassigned): (Option<Vec<UserId>>, Option<Vec<UserId>>) =
            (None, None);
        while let Some(key) = access.next_key_seed(Strictly(KeyReader))? {
            let field = match key {
                Key::Known(field) => field,
                Key::Unknown(name) => return Err(cursor.fault(name, "is not a known field")),
            };
            let users_so_far =
                [&assigned, &unassigned].into_iter().flatten().map(Vec::len).sum::<usize>();
            let room = self.most_users.saturating_sub(users_so_far);
            let users = UsersReader { cursor, room, most: self.most_users };
            let is_new = match field {
                LEAD => lead.is_none(),
                CAMPAIGN => campaign.is_none(),
                ASSIGNED => assigned.is_none(),
                _ => unassigned.is_none(),
            };
            if !is_new {
                return Err(cursor.fault(field, "stands twice"));
            }
            cursor.at(field, || {
                match field {
                    LEAD => lead = Some(access.next_value_seed(Strictly(IdReader))?),
                    CAMPAIGN => campaign = Some(access.next_value_seed(Strictly(IdReader))?),
                    ASSIGNED => assigned = Some(access.next_value_seed(Strictly(users))?),
                    _ => unassigned = Some(access.next_value_seed(Strictly(users))?),
                }
                Ok(())
            })?;
        }
        let missing = |field| cursor.fault::<A::Error>(field, "is missing");
        let change = LeadUsersChange {
            lead_id: lead.ok_or_else(|| missing(LEAD))?,
            campaign_id: campaign.ok_or_else(|| missing(CAMPAIGN))?,
            assigned_user_ids: assigned.ok_or_else(|| missing(ASSIGNED))?,
            unassigned_user_ids: unassigned.ok_or_else(|| missing(UNASSIGNED))?,
        };
        names_each_user_once(&change, cursor)?;
        Ok(change)
    }
}

fn names_each_user_once<E: Error>(change: &LeadUsersChange, cursor: &Cursor) -> Result<(), E> {
    let users = change.assigned_user_ids.iter().chain(&change.unassigned_user_ids);
    let mut users: Vec<(&str, usize)> = users.map(UserId::as_str).zip(0..).collect();
    if users.is_empty() {
        return Err(E::custom(format_args!("{ASSIGNED} and {UNASSIGNED} are both empty")));
    }
    users.sort_unstable();
    let place = |number: usize| match number.checked_sub(change.assigned_user_ids.len()) {
        None => (ASSIGNED, number),
        Some(index) => (UNASSIGNED, index),
    };
    let same = users.windows(2).filter_map(|pair| match pair {
        [(user, before), (next, number)] if user == next => Some((*number, *before)),
        _ => None,
    });
    let Some((again, before)) = same.min() else { return Ok(()) };
    let ((field_before, index_before), (field, index)) = (place(before), place(again));
    let message = format!("is the user of /{field_before}/{index_before} again");
    cursor.at(field, || Err(cursor.fault(index, message)))
}

enum Key {
    Known(&'static str),
    Unknown(String),
}

struct KeyReader;

impl<'de> Reader<'de> for KeyReader {
    type Value = Key;
    const EXPECTED: &'static str = "a field's name";

    fn text<E: Error>(self, text: &str) -> Result<Key, E> {
        let known = [LEAD, CAMPAIGN, ASSIGNED, UNASSIGNED].into_iter().find(|key| *key == text);
        Ok(known.map_or_else(|| Key::Unknown(text.to_owned()), Key::Known))
    }
}

struct IdReader;

impl<'de> Reader<'de> for IdReader {
    type Value = i32;
    const EXPECTED: &'static str = "an integer from 1 to 2147483647";

    fn integer<E: Error>(self, value: i64) -> Result<i32, E> {
        let id = i32::try_from(value).ok().filter(|id| *id > 0);
        id.ok_or_else(|| refused::<Self, E>("a number outside of that range"))
    }
}

struct UsersReader<'a> {
    cursor: &'a Cursor,
    room: usize,
    most: usize,
}

impl<'de> Reader<'de> for UsersReader<'_> {
    type Value = Vec<UserId>;
    const EXPECTED: &'static str = "a list of user ids";

    fn list<A: SeqAccess<'de>>(self, mut access: A) -> Result<Vec<UserId>, A::Error> {
        let mut users = Vec::new();
        loop {
            let next = || access.next_element_seed(Strictly(UserReader));
            match self.cursor.at(users.len(), next)? {
                None => return Ok(users),
                Some(_) if users.len() == self.room => {
                    let most = self.most;
                    let message = format!("the change names more than {most} users");
                    return Err(self.cursor.fault(users.len(), message));
                }
                Some(user) => users.push(user),
            }
        }
    }
}

struct UserReader;

impl<'de> Reader<'de> for UserReader {
    type Value = UserId;
    const EXPECTED: &'static str = "a user id in quotes";

    fn text<E: Error>(self, text: &str) -> Result<UserId, E> {
        if text.is_empty() {
            return Err(E::custom("a user id must not be empty"));
        }
        if text.chars().count() > UserId::LONGEST {
            let longest = UserId::LONGEST;
            return Err(E::custom(format_args!("a user id has at most {longest} characters")));
        }
        if text.chars().any(char::is_control) {
            return Err(E::custom("a user id must not hold control characters"));
        }
        Ok(UserId(text.to_owned()))
    }
}

// === impl UserId ===

impl UserId {
    /// The most characters that one has.
    pub const LONGEST: usize = 255;

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Encode for UserId {
    fn encode(&self, text: &mut Vec<u8>) {
        self.as_str().encode(text);
    }
}

impl Display for UserId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}
