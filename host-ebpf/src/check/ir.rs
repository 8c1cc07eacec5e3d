//! Typed trees: what the checker makes of a body at one target. Equal trees are equal programs, so they are compared and hashed.

mod body;
mod parts;
mod statement;
mod text;
mod value;

pub(crate) use body::{Body, ContextUse, NameKind, Names, Save};
pub(crate) use parts::key_needs_time;
pub(crate) use statement::{Field, FieldValue, Source, Statement, StatementKind};
pub(crate) use text::{Block, COMM_SIZE, Path, PathLayout, Text, text_room};
pub(crate) use value::{Access, Bytes, Helper, Key, KeyPart, MemoryField, Stack, TaskField, Value};
