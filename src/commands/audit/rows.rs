//! Answers of many rows: a table for people; JSON Lines or CSV, with the same fields, for programs.

use std::io::Write;

use clap::ValueEnum;
use serde::Serialize;
use serde_json::Value;

use super::table::{Column, Table};
use crate::commands::output::Output;
use crate::commands::text::{escaped, plain};

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    /// For people
    Table,
    /// JSON Lines: an object a line
    Json,
    /// A column for each field, lists as JSON
    Csv,
}

/// Writes rows in one of the formats. Nothing is written before the first row or the end.
pub(super) struct Rows {
    output: Output,
    format: Format,
    table: Table,
    /// CSV's titles, until they are written.
    titles: Option<Vec<String>>,
    number: u64,
}

impl Rows {
    /// The fields are those of any row of them.
    pub(super) fn new(format: Format, columns: Vec<Column>, any: &impl Serialize) -> Self {
        let titles = (format == Format::Csv).then(|| cells(any).map(|(title, _)| title).collect());
        Self { output: Output::new(), format, table: Table::new(columns), titles, number: 0 }
    }

    /// Shows one: its fields, or its cells in the table. Whether that went somewhere.
    pub(super) fn show(
        &mut self,
        fields: &impl Serialize,
        shown: impl FnOnce() -> Vec<String>,
    ) -> bool {
        self.number += 1;
        match self.format {
            Format::Table => self.table.row(shown(), &mut self.output),
            Format::Json => {
                let line = serde_json::to_string(fields).unwrap_or_default();
                let _ = writeln!(self.output, "{}", escaped(&line));
            }
            Format::Csv => {
                self.titles();
                self.csv(cells(fields).map(|(_, cell)| cell));
            }
        }
        self.output.is_open()
    }

    /// How many were shown.
    pub(super) fn number(&self) -> u64 {
        self.number
    }

    pub(super) fn is_table(&self) -> bool {
        self.format == Format::Table
    }

    pub(super) fn end(mut self) -> Output {
        self.titles();
        self.table.end(&mut self.output);
        let _ = self.output.flush();
        self.output
    }

    fn titles(&mut self) {
        if let Some(titles) = self.titles.take() {
            self.csv(titles.into_iter());
        }
    }

    fn csv(&mut self, cells: impl Iterator<Item = String>) {
        let mut builder = csv::WriterBuilder::new();
        let mut line = builder.buffer_capacity(1 << 10).from_writer(&mut self.output);
        // The output keeps what goes wrong with it.
        let _ = line.write_record(cells);
        let _ = line.flush();
    }
}

/// The fields, each with its path.
fn cells(fields: &impl Serialize) -> impl Iterator<Item = (String, String)> {
    let mut cells = Vec::new();
    flatten(String::new(), serde_json::to_value(fields).unwrap_or_default(), &mut cells);
    cells.into_iter()
}

fn flatten(path: String, value: Value, cells: &mut Vec<(String, String)>) {
    match value {
        Value::Object(members) => {
            let dot = if path.is_empty() { "" } else { "." };
            for (name, value) in members {
                flatten(format!("{path}{dot}{name}"), value, cells);
            }
        }
        Value::Null => cells.push((path, String::new())),
        Value::String(text) => cells.push((path, inert(&text))),
        other => cells.push((path, escaped(&other.to_string()).into_owned())),
    }
}

/// A spreadsheet would run what begins like a formula, and a terminal obey what is not text.
fn inert(cell: &str) -> String {
    let cell = plain(cell);
    if cell.starts_with(['=', '+', '-', '@']) { format!("'{cell}") } else { cell }
}
