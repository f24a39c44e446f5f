//! The scheme and authority of a URL, in the one spelling by which two of them are compared.

use http::Uri;

/// A scheme and authority, normalised after RFC 3986, sections 6.2.2.1 and 6.2.3: scheme and host
/// in small letters, and no port where it is the scheme's own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin(String);

impl Origin {
    /// The origin of an `http` or `https` URL without a user name; nothing for another.
    #[must_use]
    pub fn of(url: &Uri) -> Option<Self> {
        let (default, scheme) = match url.scheme_str()? {
            scheme if scheme.eq_ignore_ascii_case("https") => ("443", "https"),
            scheme if scheme.eq_ignore_ascii_case("http") => ("80", "http"),
            _ => return None,
        };
        let authority = url.authority()?;
        let host = authority.host();
        // A user name would stand before the host, so that it is no prefix, or a port is no number.
        let rest = authority.as_str().strip_prefix(host)?;
        if host.is_empty() {
            return None;
        }
        let port = match rest.strip_prefix(':') {
            None if rest.is_empty() => default,
            None => return None,
            Some("") => default,
            Some(port) => port,
        };
        let is_number = port.bytes().all(|byte| byte.is_ascii_digit()) && !port.starts_with('0');
        if !is_number || port.parse::<u16>().is_err() {
            return None;
        }
        let host = host.to_ascii_lowercase();
        Some(Self(if port == default {
            format!("{scheme}://{host}")
        } else {
            format!("{scheme}://{host}:{port}")
        }))
    }

    /// As it is compared.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    pub(super) fn is_plaintext(&self) -> bool {
        self.0.starts_with("http:")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn origin(url: &str) -> Option<String> {
        url.parse().ok().and_then(|url| Origin::of(&url)).map(|origin| origin.0)
    }

    #[test]
    fn two_spellings_of_one_origin_are_equal() {
        for (url, expected) in [
            ("https://gateway.example.com", "https://gateway.example.com"),
            ("HTTPS://Gateway.EXAMPLE.com/a?b", "https://gateway.example.com"),
            ("https://gateway.example.com:443/", "https://gateway.example.com"),
            ("https://gateway.example.com:", "https://gateway.example.com"),
            ("https://gateway.example.com:80", "https://gateway.example.com:80"),
            ("http://127.0.0.1:80/", "http://127.0.0.1"),
            ("http://[::1]:8080/", "http://[::1]:8080"),
        ] {
            assert_eq!(origin(url).as_deref(), Some(expected), "{url}");
        }
    }

    #[test]
    fn what_is_no_origin_of_the_web_is_none() {
        for url in [
            "",
            "/path",
            "gateway.example.com",
            "gateway.example.com:443",
            "ftp://gateway.example.com",
            "https://user@gateway.example.com",
            "https://gateway.example.com@evil.example.com",
            "https://a@a",
            "https://a:443@a",
            "https://@gateway.example.com",
            "https://gateway.example.com:0443",
            "https://gateway.example.com:+443",
            "https://gateway.example.com:65536",
            "https://gateway.example.com:99999999999999999999",
        ] {
            assert_eq!(origin(url), None, "{url}");
        }
    }
}
