//! Maps by their number in the schema, as the contract has them: for plugins that learn in
//! [`Plugin::prepare`](crate::Plugin::prepare) which maps there are. Others have [`Map`](crate::Map).

pub use crate::bindings::portcullis::plugin::maps::{Elements, clear, delete, read, take, write};
