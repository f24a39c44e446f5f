//! Tables for people: as wide as the terminal, 80 columns elsewhere.

use std::io::{self, Write};

use crate::commands::plain;

/// A column: its title, and how wide it is; 0, for the last one, is what is left of the line.
pub(super) struct Column {
    pub(super) title: &'static str,
    pub(super) width: usize,
}

/// Writes rows under their titles. What does not fit is cut with an ellipsis, save in the last
/// column: that has the answer, and goes on in the lines below.
pub(super) struct Table<W> {
    out: W,
    columns: Vec<Column>,
    width: usize,
}

impl<W: Write> Table<W> {
    pub(super) fn new(out: W, columns: Vec<Column>) -> Self {
        Self { out, columns, width: width() }
    }

    pub(super) fn titles(&mut self) -> io::Result<()> {
        let titles: Vec<&str> = self.columns.iter().map(|column| column.title).collect();
        self.row(&titles)
    }

    pub(super) fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }

    pub(super) fn row(&mut self, cells: &[&str]) -> io::Result<()> {
        let mut line = String::with_capacity(self.width);
        let mut used = 0;
        for (column, cell) in self.columns.iter().zip(cells) {
            if column.width == 0 {
                for (index, part) in wrapped(cell, self.width.saturating_sub(used)).enumerate() {
                    if index > 0 {
                        writeln!(self.out, "{}", line.trim_end())?;
                        line.clear();
                        line.extend(std::iter::repeat_n(' ', used));
                    }
                    line.push_str(&part);
                }
                continue;
            }
            let shown = cut(cell, column.width);
            let length = shown.chars().count();
            line.push_str(&shown);
            line.extend(std::iter::repeat_n(' ', column.width - length + 1));
            used += column.width + 1;
        }
        writeln!(self.out, "{}", line.trim_end())
    }
}

/// In lines of this width, parted between words.
fn wrapped(cell: &str, width: usize) -> impl Iterator<Item = String> {
    let cell = plain(cell);
    let mut lines: Vec<String> = Vec::new();
    for word in cell.split_whitespace() {
        let word = cut(word, width);
        match lines.last_mut() {
            Some(line) if line.chars().count() + 1 + word.chars().count() <= width => {
                line.push(' ');
                line.push_str(&word);
            }
            _ => lines.push(word),
        }
    }
    lines.into_iter()
}

/// In one line of this width at the most.
fn cut(cell: &str, width: usize) -> String {
    let cell = plain(cell).replace('\n', " ");
    if cell.chars().count() <= width {
        return cell;
    }
    let kept: String = cell.chars().take(width.saturating_sub(1)).collect();
    kept + "\u{2026}"
}

fn width() -> usize {
    let terminal = rustix::termios::tcgetwinsize(io::stdout()).ok().map(|size| size.ws_col);
    terminal.filter(|columns| *columns > 0).map_or(80, |columns| usize::from(columns).max(80))
}
