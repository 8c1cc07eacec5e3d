//! What wit-bindgen makes of `wit/`: the only unsafe code of this crate, and the names under which the host knows a plugin.

#[allow(missing_docs, unreachable_pub, unused_qualifications, unsafe_op_in_unsafe_fn)]
#[allow(clippy::all, clippy::undocumented_unsafe_blocks, clippy::multiple_unsafe_ops_per_block)]
#[allow(clippy::cast_lossless, clippy::needless_pass_by_value, clippy::semicolon_if_nothing_returned)]
pub mod bindings {
    wit_bindgen::generate!({
        path: "../../wit",
        // Of what it imports, a component has what it uses.
        world: "plugin-with-processes",
        // What is handed to the host is borrowed, so that a column of a batch can be passed on without a copy.
        ownership: Borrowing { duplicate_if_necessary: false },
        pub_export_macro: true,
        export_macro_name: "export_component",
        default_bindings_module: "portcullis_sdk::bindings",
    });
}
