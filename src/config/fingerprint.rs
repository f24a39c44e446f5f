//! Which parts of a configuration say the same as those of another one.
//!
//! A running gateway keeps what a part has built, with all that it has learnt, as long as the part's
//! text and the files that were read for it are the same. Lines and comments don't count.

use std::collections::BTreeMap;

use aws_lc_rs::digest::{Context, Digest, SHA256, SHA256_OUTPUT_LEN};

use super::document::{Node, Value};

/// A hash of each part.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Fingerprints(BTreeMap<String, Vec<u8>>);

impl Fingerprints {
    /// Of each table at the top, and of each one in a list of tables.
    pub(super) fn of(keys: &BTreeMap<String, Node>) -> Self {
        let mut own = Self::default();
        for (key, node) in keys {
            own.add(key, node);
            if let Value::List(list) = &node.value {
                for (index, item) in list.iter().enumerate() {
                    own.add(&format!("{key}[{index}]"), item);
                }
            }
        }
        own
    }

    fn add(&mut self, key: &str, node: &Node) {
        let mut context = Context::new(&SHA256);
        hash(node, &mut context);
        self.0.insert(key.to_owned(), context.finish().as_ref().to_vec());
    }

    /// A file that was read for a key counts for the parts in which the key stands.
    pub(super) fn add_file(&mut self, of: &str, content: Digest) {
        for (key, own) in &mut self.0 {
            let is_within = of.strip_prefix(key.as_str());
            if is_within.is_some_and(|rest| rest.starts_with(['.', '['])) {
                own.extend_from_slice(content.as_ref());
            }
        }
    }

    /// Whether a part says what the same part, or another one, says there.
    pub(crate) fn is_same(&self, key: &str, there: &Self, other: &str) -> bool {
        self.0.get(key) == there.0.get(other)
    }

    /// Whether a part is written as it is there, whatever the files that it names say.
    pub(crate) fn is_written_alike(&self, key: &str, there: &Self) -> bool {
        let text = |own: &Vec<u8>| own.get(..SHA256_OUTPUT_LEN).map(<[u8]>::to_vec);
        self.0.get(key).and_then(text) == there.0.get(key).and_then(text)
    }

    /// Whether each of these parts says what it says there.
    pub(crate) fn are_same(&self, keys: &[&str], there: &Self) -> bool {
        keys.iter().all(|key| self.is_same(key, there, key))
    }
}

/// Each value with its kind and its length before it, so that no two trees look alike.
fn hash(node: &Node, context: &mut Context) {
    let mut begin = |kind: u8, length: usize| {
        context.update(&[kind]);
        context.update(&length.to_le_bytes());
    };
    match &node.value {
        Value::Text(text) => {
            begin(b't', text.len());
            context.update(text.as_bytes());
        }
        Value::Integer(integer) => {
            begin(b'i', 0);
            context.update(&integer.to_le_bytes());
        }
        Value::Fraction(fraction) => {
            begin(b'f', 0);
            context.update(&fraction.to_le_bytes());
        }
        Value::Boolean(boolean) => begin(b'b', usize::from(*boolean)),
        Value::List(list) => {
            begin(b'l', list.len());
            list.iter().for_each(|item| hash(item, context));
        }
        Value::Table(keys) => {
            begin(b'k', keys.len());
            for (key, value) in keys {
                context.update(&key.len().to_le_bytes());
                context.update(key.as_bytes());
                hash(value, context);
            }
        }
        Value::Other => begin(b'o', 0),
    }
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::digest::digest;

    use super::super::document;
    use super::*;

    fn of(text: &str) -> Fingerprints {
        let root = document::read(text, &BTreeMap::new()).unwrap();
        let Value::Table(keys) = root.value else { panic!("no table") };
        Fingerprints::of(&keys)
    }

    #[test]
    fn what_is_said_counts_and_not_where() {
        let one = of("[a]\nx = 1\ny = \"2\"\n[b]\nz = [true]\n");
        assert_eq!(one, of("# a remark\n[b]\nz = [ true ]\n\n[a]\ny = '2'\nx = 1\n"));
        for other in ["x = 1\ny = 2", "x = 2\ny = \"2\"", "x = 1", "x1 = 1\ny = \"2\"", ""] {
            let other = of(&format!("[a]\n{other}\n[b]\nz = [true]\n"));
            assert!(one.are_same(&["b", "missing"], &other));
            assert!(!one.are_same(&["a"], &other), "{other:?}");
        }
    }

    #[test]
    fn a_file_counts_for_its_own_part() {
        let text = "[[i]]\nca = \"x\"\n[[i]]\nca = \"x\"\n";
        let (mut one, other) = (of(text), of(text));
        assert!(one.is_same("i[0]", &other, "i[1]"));
        one.add_file("i[1].ca", digest(&SHA256, b"certificate"));
        assert!(one.is_same("i[0]", &other, "i[0]"));
        assert!(!one.is_same("i[1]", &other, "i[1]"));
        assert!(one.is_written_alike("i", &other) && !one.are_same(&["i"], &other));
        assert!(!one.is_written_alike("i", &of("i = 1")));
    }
}
