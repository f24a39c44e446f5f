//! The operations that the gateway stands before: what an app may ask of the CMS.
//!
//! An operation is one module: its route, its strict type, the permissions that a value of it
//! needs, the facts that its audit record shows, and what the CMS's answer to it looks like. A
//! second one costs one file and one line in [`ALL`].

mod body;
mod lead_users;

use std::fmt::Debug;

use bytes::Bytes;
use http::Method;
use serde::Serialize;
use serde_json::Value;

pub use self::body::BodyFault;
pub use self::lead_users::{LeadUsersChange, UserId};
use crate::policy::Permission;

/// Every operation that there is.
pub static ALL: &[&Operation] = &[&lead_users::OPERATION];

/// One operation of the CMS.
#[derive(Debug)]
pub struct Operation {
    /// Its name in metrics and audit records.
    pub name: &'static str,
    /// The one method that it has.
    pub method: Method,
    /// The one path that it has, compared byte for byte and sent to the CMS as it stands here.
    pub path: &'static str,
    /// Every permission that a change of it may need.
    pub permissions: &'static [Permission],
    /// Decodes a request's body strictly; the second argument is the most users that it may name.
    pub decode: Decode,
    /// The body that a record tells of.
    pub restore: fn(Target, &[String], &[String]) -> Vec<u8>,
    /// What the API's description says of it.
    pub description: Description,
}

/// An operation as the API's description shows it. Its schemas are JSON Schema, draft 2020-12.
#[derive(Debug)]
pub struct Description {
    /// What it does, in a few words.
    pub summary: &'static str,
    /// What the schemas don't say.
    pub details: &'static str,
    /// The schema of a request's body that may name so many users.
    pub request: fn(usize) -> Value,
    /// A good body.
    pub example: &'static str,
    /// The schema of the CMS's answer.
    pub answer: fn() -> Value,
    /// What the CMS answers to the good body.
    pub answer_example: &'static str,
}

/// Decodes a body that may name so many users.
pub type Decode = fn(&[u8], usize) -> Result<Box<dyn Change>, BodyFault>;

/// A decoded change: what is authorized, recorded and sent is this value and nothing else.
pub trait Change: Debug + Send + Sync {
    /// The operation that it belongs to.
    fn operation(&self) -> &'static Operation;
    /// What must be granted, all of it.
    fn permissions(&self) -> Vec<Permission>;
    /// What the audit records show of it.
    fn facts(&self) -> Facts<'_>;
    /// The body of the request to the CMS, made afresh.
    fn encode(&self) -> Bytes;
    /// What a body that the CMS sent with a 200 says of this change.
    fn echo(&self, body: &[u8]) -> Echo;
}

/// What the CMS's answer says of the change that it was sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Echo {
    /// It is an answer to this change.
    Agrees,
    /// It is an answer to another one; in which way.
    Contradicts(String),
    /// It has not the documented shape.
    Missing,
}

/// What the audit records show of a change.
#[derive(Debug, Clone, Copy)]
pub struct Facts<'a> {
    /// What it is made on.
    pub target: Target,
    /// Who is assigned.
    pub assigned: &'a [UserId],
    /// Who is taken off.
    pub unassigned: &'a [UserId],
}

/// What a change is made on.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Target {
    /// The campaign, in which it must be granted.
    pub campaign: i32,
    /// The lead.
    pub lead: i32,
}

/// Why a request's head leads to no operation.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RouteError {
    /// The path is no operation's.
    #[error("there is no such operation")]
    NotFound,
    /// The path is an operation's, the method is not.
    #[error("this operation takes {allow} only")]
    MethodNotAllowed {
        /// What it takes.
        allow: Method,
    },
}

/// The operation of a method and a raw path. Nothing is normalised: what differs by a byte is
/// another path.
///
/// # Errors
///
/// [`RouteError`] when no operation has the path, or the one that has it takes another method.
pub fn route(method: &Method, path: &str) -> Result<&'static Operation, RouteError> {
    // CONNECT and `OPTIONS *` name no path: it is the method that is wrong.
    let names_no_path = method == Method::CONNECT || (method == Method::OPTIONS && path == "*");
    let operation = ALL
        .iter()
        .find(|operation| operation.path == path || names_no_path)
        .copied()
        .ok_or(RouteError::NotFound)?;
    if operation.method != *method {
        return Err(RouteError::MethodNotAllowed { allow: operation.method.clone() });
    }
    Ok(operation)
}
