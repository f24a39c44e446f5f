//! `completions` and `man`: what shells and `man` know of this command line.

use std::io::Write;
use std::path::Path;
use std::process::ExitCode;

use clap::CommandFactory;
use clap_complete::Shell;

use super::output::Output;
use super::{Arguments, DONE, WRONG_USE, refuse};

pub(super) fn completions(shell: Shell) -> ExitCode {
    // What writes the script takes a failure to write for a bug.
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Arguments::command(), "cms-gateway", &mut script);
    // clap_complete 4.6 has two names for the same in bash, where a program's has a hyphen.
    let script = String::from_utf8_lossy(&script).replace("cms__subcmd__gateway", "cms__gateway");
    let mut output = Output::new();
    let _ = output.write_all(script.as_bytes());
    output.end(DONE)
}

pub(super) fn man(folder: &Path) -> ExitCode {
    match clap_mangen::generate_to(Arguments::command(), folder) {
        Ok(()) => ExitCode::from(DONE),
        Err(error) => refuse(format_args!("{}: {error}", folder.display()), WRONG_USE),
    }
}
