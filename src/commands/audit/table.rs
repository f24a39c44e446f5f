//! Tables for people: as wide as the terminal, 80 columns elsewhere. Nothing is cut off: what does
//! not fit in its column goes on below.

use std::io::Write;

use unicode_width::UnicodeWidthStr;

use crate::commands::output::{Output, width};
use crate::commands::text::{plain, wrapped};

/// How many rows are looked at to find how wide the columns must be.
const SAMPLE: usize = 200;
/// The widest that a column is for its content alone.
const WIDEST: usize = 24;
/// The narrowest that others make one.
const NARROWEST: usize = 8;

/// A column: its title, and whether it takes what others leave of the line.
pub(super) struct Column {
    title: &'static str,
    is_flexible: bool,
}

/// As wide as what is in it.
pub(super) const fn fixed(title: &'static str) -> Column {
    Column { title, is_flexible: false }
}

/// As wide as what is in it, or as there is room.
pub(super) const fn flexible(title: &'static str) -> Column {
    Column { title, is_flexible: true }
}

/// Writes rows under their titles.
pub(super) struct Table {
    columns: Vec<Column>,
    /// The first rows, until the widths are known.
    first: Vec<Vec<String>>,
    widths: Vec<usize>,
}

impl Table {
    pub(super) fn new(columns: Vec<Column>) -> Self {
        Self { columns, first: Vec::new(), widths: Vec::new() }
    }

    pub(super) fn row(&mut self, cells: Vec<String>, output: &mut Output) {
        if !self.widths.is_empty() {
            return write_row(&self.widths, &cells, output);
        }
        self.first.push(cells);
        if self.first.len() == SAMPLE {
            self.end(output);
        }
    }

    /// Writes what was not written yet; nothing when there never was a row.
    pub(super) fn end(&mut self, output: &mut Output) {
        let first = std::mem::take(&mut self.first);
        if first.is_empty() {
            return;
        }
        self.widths = widths(&self.columns, &first, width());
        let titles: Vec<String> = self.columns.iter().map(|it| it.title.to_owned()).collect();
        for cells in [titles].iter().chain(&first) {
            write_row(&self.widths, cells, output);
        }
    }
}

/// What the fixed columns need, and the flexible ones of the rest: the narrow ones what they need,
/// the wide ones equal shares.
fn widths(columns: &[Column], rows: &[Vec<String>], total: usize) -> Vec<usize> {
    let needed = |index: usize, column: &Column| {
        let cells = rows.iter().filter_map(|row| row.get(index));
        let widest = cells.map(|cell| plain(cell).width()).max().unwrap_or(0);
        widest.max(column.title.width())
    };
    let mut widths: Vec<usize> =
        columns.iter().enumerate().map(|(index, column)| needed(index, column)).collect();
    let mut room = total.saturating_sub(columns.len() - 1);
    let mut flexible: Vec<&mut usize> = Vec::new();
    for (column, width) in columns.iter().zip(&mut widths) {
        if column.is_flexible {
            flexible.push(width);
        } else {
            *width = (*width).min(WIDEST);
            room = room.saturating_sub(*width);
        }
    }
    flexible.sort();
    while let Some(left) = flexible.len().checked_sub(1) {
        let width = flexible.remove(0);
        *width = (*width).min((room / (left + 1)).max(NARROWEST));
        room = room.saturating_sub(*width);
    }
    widths
}

fn write_row(widths: &[usize], cells: &[String], output: &mut Output) {
    let cells: Vec<Vec<String>> =
        cells.iter().zip(widths).map(|(cell, width)| wrapped(cell, *width)).collect();
    let height = cells.iter().map(Vec::len).max().unwrap_or(0);
    for index in 0..height {
        let mut line = String::new();
        for (cell, width) in cells.iter().zip(widths) {
            let part = cell.get(index).map_or("", String::as_str);
            line.push_str(part);
            line.extend(std::iter::repeat_n(' ', (width + 1).saturating_sub(part.width())));
        }
        // The output keeps what goes wrong with it.
        let _ = writeln!(output, "{}", line.trim_end());
    }
}
