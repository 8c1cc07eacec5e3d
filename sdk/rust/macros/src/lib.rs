//! The derive macros of `portcullis-sdk`: `Row` reads a stream's columns, `TableRow` fills a table's.

mod row;
mod shape;
mod table_row;

use proc_macro::TokenStream;
use syn::{DeriveInput, parse_macro_input};

/// Implements `portcullis_sdk::Row` for a struct with a field for each column that is read.
///
/// `#[time]` on a `u64` field makes it the time of the event; `#[column("name")]` names a column otherwise than its field.
#[proc_macro_derive(Row, attributes(time, column, unit))]
pub fn derive_row(input: TokenStream) -> TokenStream {
    let input = parse_macro_input!(input as DeriveInput);
    row::derive(&input).unwrap_or_else(|error| error.to_compile_error()).into()
}

/// Implements `portcullis_sdk::TableRow` for a struct with a field for each column of the table.
///
/// `#[time]` on a `u64` field makes it the time of the row, and one field must have it; `#[column("name")]` names a column
/// otherwise than its field; `#[unit(nanoseconds)]`, `#[unit(bytes)]` or `#[unit(address)]` says what a number counts.
#[proc_macro_derive(TableRow, attributes(time, column, unit))]
pub fn derive_table_row(input: TokenStream) -> TokenStream {
    let input = parse_macro_input!(input as DeriveInput);
    table_row::derive(&input).unwrap_or_else(|error| error.to_compile_error()).into()
}
