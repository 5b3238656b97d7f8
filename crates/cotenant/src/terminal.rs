//! The terminal: results on standard output, everything else on standard error.

use std::io::{IsTerminal as _, Write as _};

/// Columns when the width of the terminal is not known.
const COLUMNS: u16 = 100;

/// Writes a result. A reader that has gone (`| head`) is no error.
pub(crate) fn show(text: &str) -> std::io::Result<()> {
    let mut output = std::io::stdout().lock();
    let written = output
        .write_all(text.as_bytes())
        .and_then(|()| if text.ends_with('\n') { Ok(()) } else { output.write_all(b"\n") });
    match written.and_then(|()| output.flush()) {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        Err(error) => Err(std::io::Error::new(error.kind(), format!("cannot write to standard output: {error}"))),
        Ok(()) => Ok(()),
    }
}

/// Writes a line about the work to standard error; nobody is left to tell when that fails.
pub(crate) fn complain(line: &str) {
    drop(writeln!(std::io::stderr().lock(), "{line}"));
}

/// Whether results may be coloured: a terminal, and `NO_COLOR` not set.
pub(crate) fn colourful() -> bool {
    std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// Columns to fill: the terminal's, or 100 where there is none.
pub(crate) fn columns() -> u16 {
    match rustix::termios::tcgetwinsize(std::io::stdout()) {
        Ok(size) if size.ws_col >= 40 => size.ws_col,
        Ok(_) | Err(_) => COLUMNS,
    }
}
