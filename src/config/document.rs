//! The configuration's text as a tree of values that know where they stand.
//!
//! Deserializing into structs would stop at the first fault and forget the lines. So the text is
//! read into this tree, environment variables are laid over it, and [`super::section`] takes the
//! values out key by key.

use std::collections::BTreeMap;
use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::fault::{Fault, Place};

/// What every environment variable that overrides a key begins with.
///
/// Two underscores separate the levels, since one stands inside of keys; and Kubernetes gives the
/// pods of a service `cms-gateway` variables of its own that begin with `CMS_GATEWAY_`.
pub const VARIABLE_PREFIX: &str = "CMS_GATEWAY__";

/// A value and where it stands.
#[derive(Debug, Clone)]
pub(super) struct Node {
    pub(super) value: Value,
    pub(super) place: Place,
    /// The text of an environment variable, for keys that take any text.
    pub(super) raw: Option<String>,
}

#[derive(Debug, Clone)]
pub(super) enum Value {
    Text(String),
    Integer(i64),
    Fraction(f64),
    Boolean(bool),
    List(Vec<Node>),
    Table(BTreeMap<String, Node>),
    /// A date, which no key takes.
    Other,
}

/// Reads the text and lays the environment over it.
///
/// # Errors
///
/// All faults of the TOML itself, each with its line.
pub(super) fn read(text: &str, environment: &BTreeMap<String, String>) -> Result<Node, Vec<Fault>> {
    let (table, errors) = DeTable::parse_recoverable(text);
    if !errors.is_empty() {
        return Err(errors
            .iter()
            .map(|error| Fault {
                place: Place::Line(line_of(text, error.span().unwrap_or(0..0))),
                key: String::new(),
                message: format!("not TOML: {}", error.message().trim()),
            })
            .collect());
    }
    let mut root = Node {
        place: Place::Line(1),
        raw: None,
        value: Value::Table(children(text, table.get_ref())),
    };
    for (variable, value) in environment {
        if let Some(path) = variable.strip_prefix(VARIABLE_PREFIX) {
            let path: Vec<&str> = path.split("__").collect();
            lay_over(&mut root, &path, variable, value);
        }
    }
    Ok(root)
}

fn children(text: &str, table: &DeTable<'_>) -> BTreeMap<String, Node> {
    table
        .iter()
        .map(|(key, value)| (key.get_ref().to_string(), node(text, key.span(), value)))
        .collect()
}

fn node(text: &str, key: Range<usize>, value: &Spanned<DeValue<'_>>) -> Node {
    let value = match value.get_ref() {
        DeValue::String(string) => Value::Text(string.to_string()),
        DeValue::Integer(integer) => i64::from_str_radix(integer.as_str(), integer.radix())
            .map_or(Value::Other, Value::Integer),
        DeValue::Boolean(boolean) => Value::Boolean(*boolean),
        DeValue::Array(list) => {
            Value::List(list.iter().map(|item| node(text, item.span(), item)).collect())
        }
        DeValue::Table(table) => Value::Table(children(text, table)),
        DeValue::Float(float) => float.as_str().parse().map_or(Value::Other, Value::Fraction),
        DeValue::Datetime(_) => Value::Other,
    };
    Node { value, place: Place::Line(line_of(text, key)), raw: None }
}

fn line_of(text: &str, span: Range<usize>) -> usize {
    let before = text.as_bytes().iter().take(span.start);
    before.filter(|byte| **byte == b'\n').count() + 1
}

fn lay_over(node: &mut Node, path: &[&str], variable: &str, text: &str) {
    let Some((segment, rest)) = path.split_first() else {
        let place = Place::Variable(variable.to_owned());
        let mut parsed = DeValue::parse(text).map_or_else(
            |_| Node { value: Value::Text(text.to_owned()), place: place.clone(), raw: None },
            |value| self::node(text, 0..0, &value),
        );
        parsed.stand_at(&place);
        parsed.raw = Some(text.to_owned());
        *node = parsed;
        return;
    };
    let next = match &mut node.value {
        Value::List(list) => segment.parse().ok().and_then(|index: usize| list.get_mut(index)),
        Value::Table(table) => {
            let existing = table.keys().find(|key| as_in_a_variable(key) == *segment).cloned();
            let key = existing.unwrap_or_else(|| segment.to_ascii_lowercase());
            Some(table.entry(key).or_insert_with(|| Node {
                value: Value::Table(BTreeMap::new()),
                place: Place::Variable(variable.to_owned()),
                raw: None,
            }))
        }
        _ => None,
    };
    match next {
        Some(next) => lay_over(next, rest, variable, text),
        // A path that leads below a plain value: put it there, so that it is named as unknown.
        None => {
            let stray = Node {
                value: Value::Text(text.to_owned()),
                place: Place::Variable(variable.to_owned()),
                raw: None,
            };
            *node = Node {
                value: Value::Table(BTreeMap::from([(segment.to_ascii_lowercase(), stray)])),
                place: Place::Variable(variable.to_owned()),
                raw: None,
            };
        }
    }
}

fn as_in_a_variable(key: &str) -> String {
    key.replace('-', "_").to_ascii_uppercase()
}

impl Node {
    fn stand_at(&mut self, place: &Place) {
        self.place = place.clone();
        match &mut self.value {
            Value::List(list) => list.iter_mut().for_each(|node| node.stand_at(place)),
            Value::Table(table) => table.values_mut().for_each(|node| node.stand_at(place)),
            _ => {}
        }
    }

    pub(super) fn described(&self) -> String {
        match &self.value {
            Value::Text(text) => format!("{text:?}"),
            Value::Integer(integer) => integer.to_string(),
            Value::Fraction(fraction) => fraction.to_string(),
            Value::Boolean(boolean) => boolean.to_string(),
            Value::List(_) => "a list".to_owned(),
            Value::Table(_) => "a table".to_owned(),
            Value::Other => "this".to_owned(),
        }
    }
}
