//! The API's description in OpenAPI 3.1, made of what the gateway itself goes by: the table of
//! operations, the table of error codes, the statuses that are relayed, and the limits in force.

use http::StatusCode;
use http::header::{ALLOW, HeaderName, RETRY_AFTER, WWW_AUTHENTICATE};
use serde_json::{Map, Value, json};
use uuid::Uuid;

use crate::config::Limits;
use crate::context::REQUEST_ID;
use crate::operation::{self, Operation};
use crate::reply::{AUDIT_RECORD, Code, DPOP_NONCE, Problem, RATE_LIMIT, RATE_LIMIT_POLICY};
use crate::upstream::{LONGEST_CODE, RELAYED};

/// What the description depends on beside the tables.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Api<'a> {
    /// Scheme, host and port by which clients know it.
    pub(crate) origin: &'a str,
    pub(crate) limits: &'a Limits,
    pub(crate) takes_dpop: bool,
}

impl Api<'_> {
    /// The whole document.
    pub(crate) fn document(self) -> Value {
        let mut paths = Map::new();
        for operation in operation::ALL {
            let method = operation.method.as_str().to_ascii_lowercase();
            paths.insert(operation.path.to_owned(), json!({method: self.operation(operation)}));
        }
        let bearer = json!({
            "type": "http", "scheme": "bearer",
            "description": "A token of a configured issuer for this gateway's audience (RFC 6750).",
        });
        let dpop = json!({
            "type": "http", "scheme": "DPoP",
            "description": "A token that is bound to a key, with a proof in the DPoP header for \
                each request (RFC 9449).",
        });
        let schemes = [Some(("bearer", bearer)), self.takes_dpop.then_some(("dpop", dpop))];
        let schemes: Map<String, Value> =
            schemes.into_iter().flatten().map(|(name, scheme)| (name.to_owned(), scheme)).collect();
        let alternatives: Vec<Value> = schemes.keys().map(|name| json!({name: []})).collect();
        json!({
            "openapi": "3.1.0",
            "info": {
                "title": "cms-gateway",
                "version": env!("CARGO_PKG_VERSION"),
                "summary": env!("CARGO_PKG_DESCRIPTION"),
                "description": "The CMS's own calls, for callers with a token. Errors have one \
                    shape, the CMS's and the gateway's; a 401 or 403 always concerns the caller. \
                    Requests have no query, and paths are compared byte for byte.",
                "license": {"name": "Apache License 2.0", "identifier": env!("CARGO_PKG_LICENSE")},
            },
            "servers": [{"url": self.origin}],
            "security": alternatives,
            "paths": paths,
            "components": {
                "securitySchemes": schemes,
                "headers": self.headers(),
                "schemas": {
                    "ErrorCode": error_codes(),
                    "Error": error(),
                    "CmsError": cms_error(),
                },
            },
        })
    }

    fn operation(self, operation: &Operation) -> Value {
        let described = &operation.description;
        let permissions: Vec<_> = operation.permissions.iter().map(|it| it.as_str()).collect();
        let Limits { body, users, body_timeout, .. } = self.limits;
        let body_timeout = humantime::format_duration(*body_timeout);
        let mut responses = Map::new();
        let of_codes = Code::ALL.iter().map(|code| code.status());
        let mut statuses: Vec<StatusCode> = of_codes.chain(RELAYED.iter().copied()).collect();
        statuses.sort_unstable();
        statuses.dedup();
        for status in statuses {
            responses.insert(status.as_str().to_owned(), self.response(operation, status));
        }
        json!({
            "operationId": operation.name,
            "summary": described.summary,
            "description": format!(
                "{} Permissions that it may need: {}.",
                described.details, permissions.join(", ")
            ),
            "requestBody": {
                "required": true,
                "description": format!(
                    "At most {body} bytes in UTF-8, not encoded, within {body_timeout}."
                ),
                "content": {"application/json": {
                    "schema": (described.request)(*users),
                    "example": example(described.example),
                }},
            },
            "responses": responses,
        })
    }

    /// All answers of one status: the CMS's, as far as they are relayed, and the gateway's own.
    fn response(self, operation: &Operation, status: StatusCode) -> Value {
        let codes: Vec<Code> =
            Code::ALL.iter().copied().filter(|code| code.status() == status).collect();
        let is_relayed = RELAYED.contains(&status);
        let mut words: Vec<String> =
            codes.iter().map(|code| format!("{}: {}", code.as_str(), code.meaning())).collect();
        if is_relayed {
            words.insert(0, "The CMS's answer.".to_owned());
        }
        let described = &operation.description;
        let content = if status == StatusCode::OK {
            Some(json!({
                "schema": (described.answer)(),
                "example": example(described.answer_example),
            }))
        } else if status.is_success() {
            None
        } else {
            Some(json!({
                "schema": error_of(status, &codes, is_relayed),
                "examples": codes.iter().map(|code| problem(*code)).collect::<Map<_, _>>(),
            }))
        };
        let response = [
            ("description", Some(words.join("\n\n").into())),
            ("headers", Some(self.headers_of(status))),
            ("content", content.map(|content| json!({"application/json": content}))),
        ];
        let there = response.into_iter().filter_map(|(name, value)| Some((name, value?)));
        there.map(|(name, value)| (name.to_owned(), value)).collect::<Map<_, _>>().into()
    }

    /// Those that are always there with a status are required.
    fn headers_of(self, status: StatusCode) -> Value {
        let mut names = vec![&REQUEST_ID, &AUDIT_RECORD];
        match status {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => names.push(&WWW_AUTHENTICATE),
            StatusCode::METHOD_NOT_ALLOWED => names.push(&ALLOW),
            StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS => {
                names.push(&RETRY_AFTER);
            }
            _ => {}
        }
        if self.limits.rate.is_some() {
            names.extend([&RATE_LIMIT_POLICY, &RATE_LIMIT]);
        }
        if self.takes_dpop {
            names.push(&DPOP_NONCE);
        }
        let of = |name: &&HeaderName| {
            let reference = format!("#/components/headers/{name}");
            (name.as_str().to_owned(), json!({"$ref": reference}))
        };
        names.iter().map(of).collect::<Map<_, _>>().into()
    }

    fn headers(self) -> Value {
        let text = || json!({"type": "string"});
        let seconds = json!({"type": "integer", "minimum": 1});
        let id = json!({"type": "string", "format": "uuid"});
        let (always, sometimes) = (true, false);
        let of_all = [
            (&REQUEST_ID, always, id, "The id that the gateway gave the request."),
            (
                &AUDIT_RECORD,
                sometimes,
                text(),
                "The receipt of a request that is on record: origin, sequence and leaf hash.",
            ),
            (&WWW_AUTHENTICATE, always, text(), "The challenge (RFC 6750, section 3)."),
            (&ALLOW, always, text(), "The method that the operation takes."),
            (
                &RETRY_AFTER,
                always,
                seconds,
                "In how many seconds to try again (RFC 9110, section 10.2.3).",
            ),
        ];
        let of_rates = [
            (&RATE_LIMIT_POLICY, "The caller's rate (draft-ietf-httpapi-ratelimit-headers-11)."),
            (&RATE_LIMIT, "What is left of the caller's rate (the same)."),
        ];
        let of_rates = of_rates.into_iter().filter(|_| self.limits.rate.is_some());
        let nonce = (&DPOP_NONCE, "For the next proof (RFC 9449, section 8).");
        let others = of_rates.chain(self.takes_dpop.then_some(nonce));
        let others = others.map(|(name, words)| (name, sometimes, text(), words));
        let header = |(name, required, schema, words): (&HeaderName, bool, Value, &str)| {
            let header = json!({"description": words, "required": required, "schema": schema});
            (name.as_str().to_owned(), header)
        };
        of_all.into_iter().chain(others).map(header).collect::<Map<_, _>>().into()
    }
}

/// Each code with when it is given.
fn error_codes() -> Value {
    let code = |code: &Code| json!({"const": code.as_str(), "description": code.meaning()});
    json!({"type": "string", "oneOf": Code::ALL.iter().map(code).collect::<Vec<_>>()})
}

/// An error of the gateway's own; its members are those that one has.
fn error() -> Value {
    let (_, example) = problem(Code::Internal);
    let members = example.pointer("/value").and_then(Value::as_object);
    let properties: Map<String, Value> = members
        .into_iter()
        .flatten()
        .map(|(name, value)| {
            let schema = match name.as_str() {
                "errorCode" => json!({"$ref": "#/components/schemas/ErrorCode"}),
                "requestId" => json!({"type": "string", "format": "uuid"}),
                _ if value.is_number() => json!({"type": "integer"}),
                _ => json!({"type": "string"}),
            };
            (name.clone(), schema)
        })
        .collect();
    let required: Vec<&String> = properties.keys().collect();
    json!({
        "type": "object", "additionalProperties": false,
        "required": required, "properties": properties,
    })
}

/// An error of the CMS's, as far as it must be there to be relayed.
fn cms_error() -> Value {
    json!({
        "type": "object",
        "required": ["statusCode", "errorCode", "errorMessage"],
        "properties": {
            "statusCode": {"type": "integer"},
            "status": {"type": "string"},
            "errorCode": {"type": "string", "maxLength": LONGEST_CODE},
            "errorMessage": {"type": "string"},
        },
    })
}

fn error_of(status: StatusCode, codes: &[Code], is_relayed: bool) -> Value {
    let status = json!({"const": status.as_u16()});
    let codes: Vec<_> = codes.iter().map(|code| code.as_str()).collect();
    let own = json!({
        "allOf": [{"$ref": "#/components/schemas/Error"}],
        "properties": {"statusCode": status, "errorCode": {"enum": codes}},
    });
    if !is_relayed {
        return own;
    }
    let relayed = json!({
        "allOf": [{"$ref": "#/components/schemas/CmsError"}],
        "properties": {"statusCode": status},
    });
    json!({"anyOf": [own, relayed]})
}

/// An answer with this code, as it is sent.
fn problem(code: Code) -> (String, Value) {
    let problem = Problem::new(code, code.meaning());
    (code.as_str().to_owned(), json!({"value": problem.body(Uuid::nil())}))
}

fn example(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_default()
}
