//! A table of the configuration, whose keys are taken out one by one.
//!
//! Each fault is noted with its place and reading goes on; what nobody took when the section is
//! dropped is an unknown key.

mod values;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt::{self, Display};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use aws_lc_rs::digest::{Digest, SHA256, digest};

use super::document::{Node, Value};
use super::fault::{Fault, Place};
use super::fingerprint::Fingerprints;

/// A table of the configuration, whose keys are taken out one by one.
pub(super) struct Section {
    path: String,
    place: Place,
    keys: BTreeMap<String, Node>,
    /// Where the keys stood that were taken out.
    taken: BTreeMap<String, Place>,
    asked: RefCell<Vec<String>>,
    /// Whether it was said that something else than a table stands here, which lacks no keys.
    is_none: bool,
    notes: Rc<RefCell<Notes>>,
    folder: Rc<PathBuf>,
}

/// What is found out about a configuration while it is read.
#[derive(Debug, Default)]
pub(super) struct Notes {
    pub(super) faults: Vec<Fault>,
    /// A hash of each file that was read, and for which key.
    pub(super) files: Vec<(String, Digest)>,
}

/// A value and the place of its key, for a fault that is found later.
#[derive(Debug, Clone)]
pub(super) struct Located<T> {
    pub(super) value: T,
    pub(super) place: Place,
    pub(super) key: String,
}

impl Section {
    pub(super) fn root(node: Node, folder: &Path, notes: &Rc<RefCell<Notes>>) -> Self {
        let keys = match node.value {
            Value::Table(keys) => keys,
            _ => BTreeMap::new(),
        };
        Self {
            path: String::new(),
            place: node.place,
            keys,
            taken: BTreeMap::new(),
            asked: RefCell::default(),
            is_none: false,
            notes: Rc::clone(notes),
            folder: Rc::new(folder.to_owned()),
        }
    }

    pub(super) fn path_of(&self, key: &str) -> String {
        match (self.path.as_str(), key) {
            ("", key) => key.to_owned(),
            (path, "") => path.to_owned(),
            (path, key) => format!("{path}.{key}"),
        }
    }

    /// Notes a fault of a key, or of this table where it lacks it; without a key, of the table as a
    /// whole.
    pub(super) fn fault(&self, key: &str, message: impl Display) {
        let own = self.keys.get(key).map(|node| &node.place).or_else(|| self.taken.get(key));
        self.fault_at(own.unwrap_or(&self.place), &self.path_of(key), message);
    }

    pub(super) fn fault_of<T>(&self, located: &Located<T>, message: impl Display) {
        self.fault_at(&located.place, &located.key, message);
    }

    fn fault_at(&self, place: &Place, key: &str, message: impl Display) {
        self.notes.borrow_mut().faults.push(Fault {
            place: place.clone(),
            key: key.to_owned(),
            message: message.to_string(),
        });
    }

    /// Notes that a file was read for a key.
    pub(super) fn has_read(&self, file: &Located<PathBuf>, content: &[u8]) {
        self.notes.borrow_mut().files.push((file.key.clone(), digest(&SHA256, content)));
    }

    /// What each part of the whole says.
    pub(super) fn fingerprints(&self) -> Fingerprints {
        Fingerprints::of(&self.keys)
    }

    /// What the files say that were read so far.
    pub(super) fn add_files(&self, fingerprints: &mut Fingerprints) {
        for (key, content) in &self.notes.borrow().files {
            fingerprints.add_file(key, *content);
        }
    }

    fn take(&mut self, key: &str) -> Option<Node> {
        self.asked.borrow_mut().push(key.to_owned());
        let node = self.keys.remove(key)?;
        self.taken.insert(key.to_owned(), node.place.clone());
        Some(node)
    }

    fn wrong<T>(&self, node: &Node, key: &str, expected: impl Display) -> Option<T> {
        let message = format!("{} is not {expected}", node.described());
        self.fault_at(&node.place, &self.path_of(key), message);
        None
    }

    fn located<T>(&self, node: &Node, key: &str, value: T) -> Located<T> {
        Located { value, place: node.place.clone(), key: self.path_of(key) }
    }

    /// A table below this one; an empty one where there is none.
    pub(super) fn section(&mut self, key: &str) -> Self {
        let node = self.take(key);
        let place = node.as_ref().map_or_else(|| self.place.clone(), |node| node.place.clone());
        match node {
            None => self.child(key, place, BTreeMap::new()),
            Some(Node { value: Value::Table(keys), .. }) => self.child(key, place, keys),
            Some(node) => {
                self.wrong::<()>(&node, key, "a table");
                let mut none = self.child(key, place, BTreeMap::new());
                none.is_none = true;
                none
            }
        }
    }

    /// The tables of a list of tables, as in `[[issuers]]`.
    pub(super) fn sections(&mut self, key: &str) -> Vec<Self> {
        let Some(node) = self.take(key) else { return Vec::new() };
        let Value::List(list) = node.value else {
            self.wrong::<()>(&node, key, "a list of tables");
            return Vec::new();
        };
        let mut sections = Vec::new();
        for (index, item) in list.into_iter().enumerate() {
            let name = format!("{key}[{index}]");
            match item.value {
                Value::Table(keys) => sections.push(self.child(&name, item.place, keys)),
                _ => {
                    self.wrong::<()>(&item, &name, "a table");
                }
            }
        }
        sections
    }

    /// The tables of a table whose keys the user chose, as in `[roles.NAME]`.
    pub(super) fn named_sections(&mut self, key: &str) -> Vec<(String, Self)> {
        let mut outer = self.section(key);
        outer
            .names()
            .into_iter()
            .map(|name| {
                let section = outer.section(&name);
                (name, section)
            })
            .collect()
    }

    fn child(&self, key: &str, place: Place, keys: BTreeMap<String, Node>) -> Self {
        Self {
            path: self.path_of(key),
            place,
            keys,
            taken: BTreeMap::new(),
            asked: RefCell::default(),
            is_none: false,
            notes: Rc::clone(&self.notes),
            folder: Rc::clone(&self.folder),
        }
    }

    /// Says that a key must be there, unless its value was already found at fault.
    pub(super) fn require<T>(&self, key: &str, value: Option<T>, example: &str) -> Option<T> {
        let noted = self.notes.borrow().faults.iter().any(|fault| fault.key == self.path_of(key));
        if value.is_none() && !noted && !self.is_none {
            self.fault(key, format_args!("is missing; write, for example, {key} = {example}"));
        }
        value
    }

    /// The keys that are left, which the user chose.
    pub(super) fn names(&self) -> Vec<String> {
        self.keys.keys().cloned().collect()
    }

    /// Whether a key is there and holds text (it may hold something else instead).
    pub(super) fn holds_text(&self, key: &str) -> bool {
        matches!(self.keys.get(key), Some(Node { value: Value::Text(_), .. }))
    }

    /// Whether a key is there and holds a table.
    pub(super) fn holds_table(&self, key: &str) -> bool {
        matches!(self.keys.get(key), Some(Node { value: Value::Table(_), .. }))
    }

    /// Leaves out a key about which enough was said.
    pub(super) fn ignore(&mut self, key: &str) {
        self.take(key);
    }

    /// Leaves out all keys that nobody has taken, where nobody knows what they might be.
    pub(super) fn ignore_others(&mut self) {
        self.keys.clear();
    }

    /// Whether a key, which is a known one, is there.
    pub(super) fn has(&self, key: &str) -> bool {
        self.asked.borrow_mut().push(key.to_owned());
        self.keys.contains_key(key)
    }
}

/// What nobody asked for is an unknown key, said when the section has been read.
impl Drop for Section {
    fn drop(&mut self) {
        let asked = self.asked.borrow();
        for (key, node) in &self.keys {
            let nearest = asked
                .iter()
                .map(|known| (strsim::damerau_levenshtein(known, key), known))
                .min()
                .filter(|(distance, _)| *distance <= 2);
            let hint = nearest
                .map(|(_, known)| format!("; did you mean {known}?"))
                .unwrap_or_else(|| Hint(&asked).to_string());
            self.fault_at(
                &node.place,
                &self.path_of(key),
                format_args!("is not a known key{hint}"),
            );
        }
    }
}

/// What `take` makes of a text, and the faults that it finds there.
#[cfg(test)]
pub(super) fn faults_of<T>(
    text: &str,
    folder: &Path,
    take: impl FnOnce(Section) -> T,
) -> (T, Vec<String>) {
    let noted = Rc::new(RefCell::default());
    let root = super::document::read(text, &BTreeMap::new()).unwrap_or_else(|faults| {
        panic!("{faults:?}");
    });
    let taken = take(Section::root(root, folder, &noted));
    let told = |fault: &Fault| format!("{}: {}", fault.key, fault.message);
    let faults = noted.borrow().faults.iter().map(told).collect();
    (taken, faults)
}

struct Hint<'a>(&'a [String]);

impl Display for Hint<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return Ok(());
        }
        let mut known: Vec<&str> = self.0.iter().map(String::as_str).collect();
        known.sort_unstable();
        known.dedup();
        write!(formatter, "; known here: {}", known.join(", "))
    }
}
