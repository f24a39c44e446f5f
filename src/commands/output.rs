//! Standard output: what can't be written there is a fault, unless nobody reads it any more.

use std::fmt::Display;
use std::io::{self, BufWriter, IsTerminal, StdoutLock, Write};
use std::process::ExitCode;

use super::text::{plain, wrapped};
use super::{WRONG_USE, refuse};

/// Standard output. It keeps its first failure, so that those who write need not look at each
/// write; nothing is written after it.
pub(super) struct Output {
    out: BufWriter<StdoutLock<'static>>,
    failure: Option<io::Error>,
}

impl Output {
    pub(super) fn new() -> Self {
        Self { out: BufWriter::new(io::stdout().lock()), failure: None }
    }

    /// Says something in a line of its own.
    pub(super) fn say(&mut self, text: impl Display) {
        let _ = writeln!(self, "{}", plain(&text.to_string()));
    }

    /// Says something in as many lines as the terminal's width asks for, each indented.
    pub(super) fn say_below(&mut self, text: &str) {
        for line in wrapped(text, width() - 2) {
            let _ = writeln!(self, "  {line}");
        }
    }

    /// Whether what is said still goes somewhere.
    pub(super) fn is_open(&self) -> bool {
        self.failure.is_none()
    }

    /// Ends with the answer's status, or says that the answer could not be written.
    pub(super) fn end(mut self, status: u8) -> ExitCode {
        let _ = self.flush();
        match self.failure {
            // Whoever reads has seen enough, as `head` does.
            Some(error) if error.kind() != io::ErrorKind::BrokenPipe => {
                refuse(format_args!("standard output: {error}"), WRONG_USE)
            }
            _ => ExitCode::from(status),
        }
    }

    fn note<T>(&mut self, result: io::Result<T>) -> io::Result<T> {
        result.map_err(|error| {
            let kind = error.kind();
            self.failure.get_or_insert(error);
            kind.into()
        })
    }
}

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if let Some(error) = &self.failure {
            return Err(error.kind().into());
        }
        let result = self.out.write(bytes);
        self.note(result)
    }

    fn flush(&mut self) -> io::Result<()> {
        if let Some(error) = &self.failure {
            return Err(error.kind().into());
        }
        let result = self.out.flush();
        self.note(result)
    }
}

/// How many columns there are: the terminal's or, elsewhere, those of `COLUMNS`; 80 at the least.
pub(super) fn width() -> usize {
    let terminal = rustix::termios::tcgetwinsize(io::stdout()).ok();
    let terminal = terminal.map(|size| usize::from(size.ws_col)).filter(|columns| *columns > 0);
    let stated = || std::env::var("COLUMNS").ok()?.parse().ok();
    terminal.or_else(stated).unwrap_or(80).clamp(80, 1000)
}

pub(super) fn is_terminal() -> bool {
    io::stdout().is_terminal()
}
