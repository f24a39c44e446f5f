//! The revocation list: which tokens it is about, found by their names.

use std::borrow::Borrow;
use std::collections::{BTreeSet, HashMap};
use std::hash::{Hash, Hasher};

use super::format::{self, Entry, RevocationFault};

/// The tokens that are no longer accepted.
#[derive(Debug, Default)]
pub struct RevocationList {
    /// Before which instant a token with these names must have been issued to be revoked; whenever
    /// it was, without.
    revoked: HashMap<Names, Option<u64>>,
    /// Which names the entries have. There are at most fourteen combinations, and mostly one or two.
    shapes: BTreeSet<Shape>,
    entries: usize,
}

impl RevocationList {
    /// The most bytes of a list.
    pub const LARGEST: usize = 16 << 20;
    /// The most entries of a list.
    pub const MOST: usize = 1_000_000;

    /// Reads a list, all of it or nothing.
    ///
    /// # Errors
    ///
    /// The first fault with its place.
    pub fn parse(bytes: &[u8]) -> Result<Self, RevocationFault> {
        format::read(bytes)
    }

    /// How many entries were read.
    #[must_use]
    pub fn entries(&self) -> usize {
        self.entries
    }

    /// Whether an entry is about a token of these names.
    #[must_use]
    pub fn is_revoked(
        &self,
        issuer: &str,
        subject: Option<&str>,
        client_id: Option<&str>,
        token_id: Option<&str>,
        issued_at: Option<u64>,
    ) -> bool {
        let names = [Some(issuer), subject, client_id, token_id];
        self.shapes.iter().any(|shape| {
            let asked = shape.of(names);
            let found = self.revoked.get(&asked as &dyn Named);
            found.is_some_and(|before| match (before, issued_at) {
                (Some(before), Some(issued_at)) => issued_at < *before,
                _ => true,
            })
        })
    }

    /// How many entries name an issuer that is none of these, and so are about no token.
    #[must_use]
    pub fn of_other_issuers(&self, known: &[String]) -> usize {
        let named = self.revoked.keys().filter_map(|Names([issuer, ..])| issuer.as_deref());
        named.filter(|issuer| !known.iter().any(|known| known == issuer)).count()
    }

    /// Of two entries of the same names, the one that is about more tokens counts.
    pub(super) fn insert(&mut self, entry: Entry) {
        let names = Names([entry.issuer, entry.subject, entry.client_id, entry.token_id]);
        self.shapes.insert(Shape(names.names().map(|name| name.is_some())));
        self.entries += 1;
        self.revoked
            .entry(names)
            .and_modify(|before| {
                *before = before.zip(entry.issued_before).map(|(one, other)| one.max(other));
            })
            .or_insert(entry.issued_before);
    }
}

/// Issuer, subject, client and token of an entry; a name that is not there may be any.
#[derive(Debug)]
struct Names([Option<Box<str>>; 4]);

/// Which of the names an entry has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Shape([bool; 4]);

impl Shape {
    /// The names that entries of this shape have.
    fn of(self, names: [Option<&str>; 4]) -> [Option<&str>; 4] {
        let [issuer, subject, client_id, token_id] = names;
        let Self([has_issuer, has_subject, has_client_id, has_token_id]) = self;
        [
            issuer.filter(|_| has_issuer),
            subject.filter(|_| has_subject),
            client_id.filter(|_| has_client_id),
            token_id.filter(|_| has_token_id),
        ]
    }
}

/// What finds an entry: an entry's own names, or those of a token, which are borrowed, so that a
/// look-up allocates nothing.
trait Named {
    fn names(&self) -> [Option<&str>; 4];
}

impl Named for Names {
    fn names(&self) -> [Option<&str>; 4] {
        self.0.each_ref().map(Option::as_deref)
    }
}

impl Named for [Option<&str>; 4] {
    fn names(&self) -> [Option<&str>; 4] {
        *self
    }
}

impl<'a> Borrow<dyn Named + 'a> for Names {
    fn borrow(&self) -> &(dyn Named + 'a) {
        self
    }
}

impl Hash for dyn Named + '_ {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.names().hash(state);
    }
}

impl PartialEq for dyn Named + '_ {
    fn eq(&self, other: &Self) -> bool {
        self.names() == other.names()
    }
}

impl Eq for dyn Named + '_ {}

impl Hash for Names {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.names().hash(state);
    }
}

impl PartialEq for Names {
    fn eq(&self, other: &Self) -> bool {
        self.names() == other.names()
    }
}

impl Eq for Names {}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    fn parse(value: &Value) -> RevocationList {
        RevocationList::parse(&serde_json::to_vec(value).unwrap()).unwrap()
    }

    #[test]
    fn an_entry_is_about_the_tokens_that_have_everything_it_names() {
        let list = parse(&json!({"revoked": [
            {"token_id": "t1"},
            {"subject": "alice", "issuer": "one"},
            {"subject": "bob", "client_id": "dialer"},
        ]}));
        assert_eq!(list.entries(), 3);
        let revoked = |issuer, subject, client, token| {
            list.is_revoked(issuer, subject, client, token, Some(5))
        };
        assert!(revoked("any", Some("carol"), Some("app"), Some("t1")));
        assert!(!revoked("any", Some("t1"), Some("t1"), Some("t2")), "a name has its member");
        assert!(revoked("one", Some("alice"), None, None));
        assert!(!revoked("two", Some("alice"), None, None));
        assert!(revoked("one", Some("bob"), Some("dialer"), Some("t9")));
        assert!(!revoked("one", Some("bob"), Some("app"), None));
        assert!(!revoked("one", Some("bob"), None, None));
        assert!(!revoked("one", None, Some("dialer"), None));
        assert!(!revoked("one", None, None, None));
    }

    #[test]
    fn issued_before_spares_what_was_issued_then_or_later() {
        let list = parse(&json!({"revoked": [
            {"subject": "rfc", "issued_before": "2026-11-25T11:00:00+01:00"},
            {"subject": "fraction", "issued_before": "2026-11-25T10:00:00.001Z"},
            {"subject": "seconds", "issued_before": 1_795_600_800},
        ]}));
        let revoked = |subject, at| list.is_revoked("any", Some(subject), None, None, at);
        for (subject, before) in
            [("rfc", 1_795_600_800), ("fraction", 1_795_600_801), ("seconds", 1_795_600_800)]
        {
            assert!(revoked(subject, Some(before - 1)), "{subject}");
            assert!(!revoked(subject, Some(before)), "{subject}");
            assert!(revoked(subject, None), "{subject}: who knows when it was issued");
        }
    }

    #[test]
    fn of_two_entries_of_the_same_names_the_wider_counts() {
        let revokes_at = |entries: Value, at| {
            let list = parse(&json!({"revoked": entries}));
            list.is_revoked("any", None, Some("app"), None, Some(at))
        };
        let [early, late, always] = [
            json!({"client_id": "app", "issued_before": 10}),
            json!({"client_id": "app", "issued_before": 20}),
            json!({"client_id": "app"}),
        ];
        assert!(revokes_at(json!([early, late]), 19) && revokes_at(json!([late, early]), 19));
        assert!(!revokes_at(json!([early, late]), 20));
        assert!(revokes_at(json!([late, always]), 99) && revokes_at(json!([always, late]), 99));
    }

    /// Issuer, subject, client and token, and an instant.
    type Drawn = ([Option<&'static str>; 4], Option<u64>);

    /// Few names and times, so that they meet.
    fn drawn() -> impl Strategy<Value = Drawn> {
        let name = || proptest::option::of(prop::sample::select(vec!["a", "b", "c"]));
        ([name(), name(), name(), name()], proptest::option::of(0..4_u64))
    }

    proptest! {
        #[test]
        fn the_maps_agree_with_a_look_at_every_entry(
            entries in prop::collection::vec(drawn(), 0..12),
            tokens in prop::collection::vec(drawn(), 1..12),
        ) {
            let entries: Vec<Drawn> = entries
                .into_iter()
                .filter(|(names, _)| names[1..].iter().any(Option::is_some))
                .collect();
            let members = ["issuer", "subject", "client_id", "token_id"];
            let written: Vec<Value> = entries
                .iter()
                .map(|(names, before)| {
                    let names = members.iter().zip(names);
                    let mut entry: serde_json::Map<String, Value> = names
                        .filter_map(|(member, name)| Some(((*member).to_owned(), json!((*name)?))))
                        .collect();
                    if let Some(before) = before {
                        entry.insert("issued_before".to_owned(), json!(before));
                    }
                    Value::Object(entry)
                })
                .collect();
            let list = parse(&json!({"revoked": written}));
            for (names, issued_at) in tokens {
                let issuer = names[0].unwrap_or("d");
                let own = [Some(issuer), names[1], names[2], names[3]];
                let expected = entries.iter().any(|(wanted, before)| {
                    wanted.iter().zip(own).all(|(wanted, own)| wanted.is_none() || *wanted == own)
                        && before.is_none_or(|before| issued_at.is_none_or(|at| at < before))
                });
                let found = list.is_revoked(issuer, names[1], names[2], names[3], issued_at);
                prop_assert_eq!(found, expected, "{:?} {:?}", own, issued_at);
            }
        }
    }
}
