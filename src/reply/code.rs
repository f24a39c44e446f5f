//! The table of error codes: what each is called, its status, and when it is given.

use http::StatusCode;

macro_rules! codes {
    ($($name:ident $code:literal $status:ident $when:literal,)*) => {
        /// The gateway's error codes.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Code {
            $(#[doc = $when] $name,)*
        }

        impl Code {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$name),*];

            /// Code, status, and when it is given, as one table.
            const fn row(self) -> (&'static str, StatusCode, &'static str) {
                match self {
                    $(Self::$name => ($code, StatusCode::$status, $when),)*
                }
            }
        }
    };
}

codes! {
    Malformed "GW-1001" BAD_REQUEST "The request or its body is malformed; the message names the place.",
    NoSuchOperation "GW-1002" NOT_FOUND "There is no such operation.",
    WrongMethod "GW-1003" METHOD_NOT_ALLOWED "The operation takes another method.",
    BodyTooLarge "GW-1004" PAYLOAD_TOO_LARGE "The body is too large.",
    WrongMediaType "GW-1005" UNSUPPORTED_MEDIA_TYPE "The body is not application/json, or is encoded.",
    TooSlow "GW-1006" REQUEST_TIMEOUT "The request came too slowly.",
    HeadTooLarge "GW-1007" REQUEST_HEADER_FIELDS_TOO_LARGE "The head is too large, or has too many headers.",
    NoToken "GW-2001" UNAUTHORIZED "There is no token.",
    TokenNotAcceptable "GW-2002" UNAUTHORIZED "The token is not acceptable.",
    TokenExpired "GW-2003" UNAUTHORIZED "The token has expired.",
    KeysUnavailable "GW-2004" SERVICE_UNAVAILABLE "The token can't be checked: its issuer's keys can't be had, or it can't be asked.",
    NotGranted "GW-3001" FORBIDDEN "A permission is not granted; the message names it.",
    NotInCampaign "GW-3002" FORBIDDEN "The permission is not granted in this campaign.",
    OverRate "GW-3003" TOO_MANY_REQUESTS "The caller is over its rate.",
    AuditUnavailable "GW-4001" SERVICE_UNAVAILABLE "The audit trail can't be written; nothing was sent.",
    CredentialUnavailable "GW-4002" SERVICE_UNAVAILABLE "The credential for the CMS can't be had; nothing was sent.",
    CredentialRefused "GW-5001" BAD_GATEWAY "The CMS refuses the gateway's credential; the caller's is not at fault.",
    UpstreamUnreachable "GW-5002" BAD_GATEWAY "The CMS can't be reached; nothing was sent.",
    UpstreamTooSlow "GW-5003" GATEWAY_TIMEOUT "The CMS is too slow; the change may have been made, unless the message says that nothing was sent.",
    UpstreamUnintelligible "GW-5004" BAD_GATEWAY "The CMS's answer can't be understood, or is to another change.",
    CircuitOpen "GW-5005" SERVICE_UNAVAILABLE "The CMS failed too often and is not asked, or says itself that it has too much to do.",
    Overloaded "GW-9001" SERVICE_UNAVAILABLE "Too many requests or connections, or too long a wait for the CMS; nothing was sent.",
    Internal "GW-9002" INTERNAL_SERVER_ERROR "A fault of the gateway's own.",
}

impl Code {
    /// The code, as callers and records have it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        self.row().0
    }

    /// Its HTTP status.
    #[must_use]
    pub const fn status(self) -> StatusCode {
        self.row().1
    }

    /// When it is given.
    #[must_use]
    pub const fn meaning(self) -> &'static str {
        self.row().2
    }

    /// Whether it is the gateway's "you may not".
    pub(crate) const fn is_denial(self) -> bool {
        matches!(
            self,
            Self::NoToken
                | Self::TokenNotAcceptable
                | Self::TokenExpired
                | Self::NotGranted
                | Self::NotInCampaign
                | Self::OverRate
        )
    }
}
