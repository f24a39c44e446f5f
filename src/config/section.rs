//! A table of the configuration, whose keys are taken out one by one.
//!
//! Each fault is noted with its place and reading goes on; what nobody took when the section is
//! dropped is an unknown key.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt::{self, Display};
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::str::FromStr;
use std::time::Duration;

use aws_lc_rs::digest::{Digest, SHA256, digest};
use bytesize::ByteSize;

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

    /// A text, if it is there.
    pub(super) fn text(&mut self, key: &str) -> Option<Located<String>> {
        let node = self.take(key)?;
        let text = match (&node.value, &node.raw) {
            (Value::Text(text), _) => text.clone(),
            (_, Some(raw)) => raw.clone(),
            _ => return self.wrong(&node, key, "a text in quotes"),
        };
        if text.is_empty() {
            self.fault_at(&node.place, &self.path_of(key), "must not be empty");
            return None;
        }
        Some(self.located(&node, key, text))
    }

    /// A text, or else this one.
    pub(super) fn text_or(&mut self, key: &str, default: &str) -> String {
        self.text(key).map_or_else(|| default.to_owned(), |text| text.value)
    }

    /// Says that a key must be there, unless its value was already found at fault.
    pub(super) fn require<T>(&self, key: &str, value: Option<T>, example: &str) -> Option<T> {
        let noted = self.notes.borrow().faults.iter().any(|fault| fault.key == self.path_of(key));
        if value.is_none() && !noted && !self.is_none {
            self.fault(key, format_args!("is missing; write, for example, {key} = {example}"));
        }
        value
    }

    /// A text that means something, if it is there.
    pub(super) fn parsed<T: FromStr>(&mut self, key: &str, expected: &str) -> Option<Located<T>> {
        let text = self.text(key)?;
        match text.value.parse() {
            Ok(value) => Some(Located { value, place: text.place, key: text.key }),
            Err(_) => {
                self.fault_of(&text, format_args!("{:?} is not {expected}", text.value));
                None
            }
        }
    }

    /// A file's path; a relative one starts at the folder of the configuration.
    pub(super) fn path(&mut self, key: &str) -> Option<Located<PathBuf>> {
        let text = self.text(key)?;
        Some(Located { value: self.folder.join(text.value), place: text.place, key: text.key })
    }

    /// The path of a text that was taken out before, as [`Self::path`] gives it.
    pub(super) fn in_folder(&self, path: &str) -> PathBuf {
        self.folder.join(path)
    }

    /// A list of any texts, if it is there: one may stand there twice, or be empty.
    pub(super) fn words(&mut self, key: &str) -> Option<Located<Vec<String>>> {
        let node = self.take(key)?;
        let Value::List(list) = &node.value else {
            return self.wrong(&node, key, "a list of texts, as [\"one\", \"two\"]");
        };
        let words = list.iter().map(|item| match &item.value {
            Value::Text(text) => Some(text.clone()),
            _ => self.wrong(item, key, "a text in quotes"),
        });
        let words: Option<Vec<String>> = words.collect();
        words.map(|words| self.located(&node, key, words))
    }

    /// One of a few words.
    pub(super) fn choice<T: Copy>(&mut self, key: &str, choices: &[(&str, T)]) -> Option<T> {
        let text = self.text(key)?;
        let chosen = choices.iter().find(|(word, _)| *word == text.value);
        if chosen.is_none() {
            let words: Vec<String> = choices.iter().map(|(word, _)| format!("{word:?}")).collect();
            self.fault_of(
                &text,
                format_args!("{:?} is not known; write one of {}", text.value, words.join(", ")),
            );
        }
        chosen.map(|(_, value)| *value)
    }

    pub(super) fn boolean(&mut self, key: &str, default: bool) -> bool {
        let Some(node) = self.take(key) else { return default };
        match node.value {
            Value::Boolean(boolean) => boolean,
            _ => self.wrong(&node, key, "true or false").unwrap_or(default),
        }
    }

    pub(super) fn integer(&mut self, key: &str, default: u32, allowed: RangeInclusive<u32>) -> u32 {
        let Some(node) = self.take(key) else { return default };
        let fitting = match node.value {
            Value::Integer(integer) => {
                u32::try_from(integer).ok().filter(|value| allowed.contains(value))
            }
            _ => None,
        };
        let (least, most) = (allowed.start(), allowed.end());
        fitting
            .or_else(|| self.wrong(&node, key, format_args!("a number from {least} to {most}")))
            .unwrap_or(default)
    }

    /// A share of the whole, from 0 to 1.
    pub(super) fn fraction(&mut self, key: &str, default: f64) -> f64 {
        let Some(node) = self.take(key) else { return default };
        let fitting = match node.value {
            Value::Fraction(fraction) => Some(fraction),
            Value::Integer(0) => Some(0.0),
            Value::Integer(1) => Some(1.0),
            _ => None,
        };
        fitting
            .filter(|value| (0.0..=1.0).contains(value))
            .or_else(|| self.wrong(&node, key, "a number from 0.0 to 1.0"))
            .unwrap_or(default)
    }

    /// A time with its unit, as in `"500ms"`.
    pub(super) fn duration(
        &mut self,
        key: &str,
        default: Duration,
        allowed: RangeInclusive<Duration>,
    ) -> Duration {
        let Some(node) = self.take(key) else { return default };
        let fitting = match &node.value {
            Value::Text(text) => {
                humantime::parse_duration(text).ok().filter(|value| allowed.contains(value))
            }
            _ => None,
        };
        let least = humantime::format_duration(*allowed.start());
        let most = humantime::format_duration(*allowed.end());
        let expected = format!(
            "a time from {least} to {most}; write a number and a unit in quotes, as \"{}\"",
            humantime::format_duration(default)
        );
        fitting.or_else(|| self.wrong(&node, key, expected)).unwrap_or(default)
    }

    /// A number of bytes with its unit, as in `"64KiB"`.
    pub(super) fn size(&mut self, key: &str, default: u64, allowed: RangeInclusive<u64>) -> u64 {
        let Some(node) = self.take(key) else { return default };
        let fitting = match &node.value {
            Value::Text(text) => text.parse::<ByteSize>().ok().map(|size| size.as_u64()),
            Value::Integer(integer) => u64::try_from(*integer).ok(),
            _ => None,
        };
        let show = |bytes: &u64| ByteSize(*bytes).display().iec().to_string();
        let expected = format!(
            "a size from {} to {}; write a number and a unit in quotes, as \"64KiB\"",
            show(allowed.start()),
            show(allowed.end())
        );
        fitting
            .filter(|value| allowed.contains(value))
            .or_else(|| self.wrong(&node, key, expected))
            .unwrap_or(default)
    }

    /// A list of texts, none twice; empty where the key is not there.
    pub(super) fn texts(&mut self, key: &str) -> Vec<Located<String>> {
        self.texts_in(key, "a list of texts, as [\"one\", \"two\"]")
    }

    fn texts_in(&mut self, key: &str, expected: &str) -> Vec<Located<String>> {
        let mut texts: Vec<Located<String>> = Vec::new();
        for node in self.list(key, expected) {
            match &node.value {
                Value::Text(text) if !text.is_empty() => {
                    if texts.iter().any(|known| known.value == *text) {
                        self.fault_at(
                            &node.place,
                            &self.path_of(key),
                            format_args!("{text:?} stands here twice"),
                        );
                    }
                    texts.push(self.located(&node, key, text.clone()));
                }
                _ => {
                    self.wrong::<()>(&node, key, "a text in quotes");
                }
            }
        }
        texts
    }

    /// The keys that are left, which the user chose.
    pub(super) fn names(&self) -> Vec<String> {
        self.keys.keys().cloned().collect()
    }

    /// As [`Self::texts`], where one text alone may stand without the list.
    pub(super) fn texts_or_text(&mut self, key: &str) -> Vec<Located<String>> {
        if self.holds_text(key) {
            self.text(key).into_iter().collect()
        } else {
            self.texts_in(key, "a text or a list of texts, as [\"one\", \"two\"]")
        }
    }

    /// A list of positive 32-bit integers.
    pub(super) fn integers(&mut self, key: &str) -> Vec<Located<i32>> {
        let mut integers = Vec::new();
        for node in self.list(key, "a list of numbers, as [1, 2]") {
            let fitting = match &node.value {
                Value::Integer(integer) => i32::try_from(*integer).ok().filter(|value| *value > 0),
                _ => None,
            };
            match fitting {
                Some(integer) => integers.push(self.located(&node, key, integer)),
                None => {
                    self.wrong::<()>(&node, key, format_args!("a number from 1 to {}", i32::MAX));
                }
            }
        }
        integers
    }

    fn list(&mut self, key: &str, expected: &str) -> Vec<Node> {
        match self.take(key) {
            None => Vec::new(),
            Some(Node { value: Value::List(list), .. }) => list,
            Some(node) => {
                self.wrong::<()>(&node, key, expected);
                Vec::new()
            }
        }
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
