//! Components that were compiled before.

use wasmtime::{Engine, component::Component};

/// The component that `bytes` are the code of; `None` if they are of another wasmtime, another configuration or another processor.
pub(super) fn read(engine: &Engine, bytes: &[u8]) -> Option<Component> {
    // SAFETY: wasmtime trusts such bytes: they have to come from `Component::serialize`. They are what a worker of this same component
    // returned as such, and nobody else can write where the host keeps them. Had that worker been taken over, it ran what code it
    // liked already, in the same cage and with the same component's privileges as this process, which has none.
    unsafe { Component::deserialize(engine, bytes) }.ok()
}

/// The code of a component, to be read again; `None` if it is larger than `most` bytes.
pub(super) fn write(component: &Component, most: usize) -> Option<Vec<u8>> {
    component.serialize().ok().filter(|bytes| bytes.len() <= most)
}
