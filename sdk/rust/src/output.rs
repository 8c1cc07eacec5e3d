//! What a plugin says to the host beside its tables: lines, metrics, log messages, the wish to stop.

use crate::{
    Error, Level, Result, TableRows,
    bindings::portcullis::plugin::{log as host_log, output, session},
    program::TableNumber,
};

/// Shows one line of text. Control characters are cleaned away by the host.
pub fn print(line: impl AsRef<str>) {
    output::print(line.as_ref());
}

/// Sets a metric, a number with a name, whose last value is in the report.
///
/// # Errors
/// `name` is not `[A-Za-z_][A-Za-z0-9_.-]*` of at most 64 characters.
pub fn set_metric(name: &str, value: f64) -> Result<()> {
    output::set_metric(name, value).map_err(Error::new)
}

/// Appends whole columns to a table, at once and uncopied: for plugins that pass a batch's columns on. A
/// [`Table`](crate::Table) of typed rows does this by itself.
///
/// # Errors
/// The rows are not what was declared for the table; none of them is shown.
pub fn append(table: TableNumber, rows: TableRows<'_>) -> Result<()> {
    output::append(table.0, rows).map_err(Error::new)
}

/// Leaves a message for whoever runs the plugin, apart from its output.
pub fn log(level: Level, message: impl AsRef<str>) {
    host_log::log(level, message.as_ref());
}

/// Logs what only the plugin's author wants to know.
pub fn debug(message: impl AsRef<str>) {
    log(Level::Debug, message);
}

/// Logs what is worth knowing.
pub fn info(message: impl AsRef<str>) {
    log(Level::Info, message);
}

/// Logs what may be wrong.
pub fn warn(message: impl AsRef<str>) {
    log(Level::Warn, message);
}

/// Logs what is wrong, and goes on. To end the plugin, return an [`Error`].
pub fn error(message: impl AsRef<str>) {
    log(Level::Error, message);
}

/// Asks the host to close the gate of all plugins and end the run in the ordinary way. `reason` is shown.
pub fn stop(reason: impl AsRef<str>) {
    session::stop(reason.as_ref());
}
