//! The values of a section's keys, each of the one kind that its key takes.

use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use bytesize::ByteSize;

use super::{Located, Section};
use crate::config::document::{Node, Value};

impl Section {
    /// A text, if it is there.
    pub(in crate::config) fn text(&mut self, key: &str) -> Option<Located<String>> {
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
    pub(in crate::config) fn text_or(&mut self, key: &str, default: &str) -> String {
        self.text(key).map_or_else(|| default.to_owned(), |text| text.value)
    }

    /// A text that means something, if it is there.
    pub(in crate::config) fn parsed<T: FromStr>(
        &mut self,
        key: &str,
        expected: &str,
    ) -> Option<Located<T>> {
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
    pub(in crate::config) fn path(&mut self, key: &str) -> Option<Located<PathBuf>> {
        let text = self.text(key)?;
        Some(Located { value: self.folder.join(text.value), place: text.place, key: text.key })
    }

    /// The path of a text that was taken out before, as [`Self::path`] gives it.
    pub(in crate::config) fn in_folder(&self, path: &str) -> PathBuf {
        self.folder.join(path)
    }

    /// A list of any texts, if it is there: one may stand there twice, or be empty.
    pub(in crate::config) fn words(&mut self, key: &str) -> Option<Located<Vec<String>>> {
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
    pub(in crate::config) fn choice<T: Copy>(
        &mut self,
        key: &str,
        choices: &[(&str, T)],
    ) -> Option<T> {
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

    pub(in crate::config) fn boolean(&mut self, key: &str, default: bool) -> bool {
        let Some(node) = self.take(key) else { return default };
        match node.value {
            Value::Boolean(boolean) => boolean,
            _ => self.wrong(&node, key, "true or false").unwrap_or(default),
        }
    }

    pub(in crate::config) fn integer(
        &mut self,
        key: &str,
        default: u32,
        allowed: RangeInclusive<u32>,
    ) -> u32 {
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
    pub(in crate::config) fn fraction(&mut self, key: &str, default: f64) -> f64 {
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
    pub(in crate::config) fn duration(
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
    pub(in crate::config) fn size(
        &mut self,
        key: &str,
        default: u64,
        allowed: RangeInclusive<u64>,
    ) -> u64 {
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
    pub(in crate::config) fn texts(&mut self, key: &str) -> Vec<Located<String>> {
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

    /// As [`Self::texts`], where one text alone may stand without the list.
    pub(in crate::config) fn texts_or_text(&mut self, key: &str) -> Vec<Located<String>> {
        if self.holds_text(key) {
            self.text(key).into_iter().collect()
        } else {
            self.texts_in(key, "a text or a list of texts, as [\"one\", \"two\"]")
        }
    }

    /// A list of positive 32-bit integers.
    pub(in crate::config) fn integers(&mut self, key: &str) -> Vec<Located<i32>> {
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
}
