//! Ring records to column batches: the first of the two copies between the kernel and a plugin.
//!
//! A *slot* is a piece of the memory that host and worker share ([`crate::worker::memory`]). A [`Transposer`] writes records
//! into a slot, each field into the column that will be the plugin's list as it stands; the [`Descriptor`] says what is there, and
//! the worker lowers it with a memcpy a column. Where each column stands follows from the schema alone ([`Layout`]), so both
//! sides work it out for themselves.
//!
//! Texts are numbered: a column has for each row a position in the list of the batch's distinct texts. That is what makes text as
//! cheap as numbers, for the host, for the crossing and for the plugin, which hashes and compares integers.
//!
//! Elements of maps become columns of the same kinds, without a slot: a plugin asks for them, and they go over the socket.

mod descriptor;
mod dictionary;
mod elements;
mod escape;
mod layout;
mod schema;
mod slots;
mod transpose;

pub use descriptor::{Descriptor, RowsDescriptor};
pub use elements::{RawElements, from_elements, from_keys, to_columns};
pub use escape::escape;
pub use layout::{ColumnLayout, Layout, LayoutError, MAX_ROWS, SLOT_SIZE, SLOTS, StreamLayout};
pub use schema::schema;
pub use transpose::Transposer;
