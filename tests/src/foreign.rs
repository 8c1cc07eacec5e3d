//! Files that are no plugins of ours, and yet WebAssembly.

use std::fmt::Write;

use wit_component::{ComponentEncoder, StringEncoding, embed_component_metadata};
use wit_parser::Resolve;

/// The bytes of WebAssembly text.
pub fn wat(text: &str) -> Vec<u8> {
    wat::parse_str(text).unwrap_or_else(|error| panic!("{error}"))
}

/// A component of another world: it exports `run`, and that is all.
pub fn other_world() -> Vec<u8> {
    let mut resolve = Resolve::default();
    let wit = "package somebody:else@1.0.0; world command { export run: func(); }";
    let package = resolve.push_str("else.wit", wit).expect("the WIT is good");
    let world = resolve.select_world(&[package], None).expect("there is one world");
    let mut module = wat(r#"(module (func (export "run")))"#);
    embed_component_metadata(&mut module, &resolve, world, StringEncoding::UTF8).expect("the module can be described");
    let encoder = ComponentEncoder::default().module(&module).expect("the module is good");
    encoder.validate(true).encode().expect("the component is good")
}

/// A component for a version of our own world that does not exist yet.
pub fn newer_world() -> Vec<u8> {
    wat(r#"(component (import "portcullis:plugin/log@0.2.0" (instance)))"#)
}

/// A component that is nothing but large: compiling it takes some milliseconds a function, whatever it then turns out not to be.
pub fn large(functions: u32) -> Vec<u8> {
    let mut text = String::from("(component (core module (memory 1)\n");
    for function in 0..functions {
        text.push_str("(func (param i32) (result i32) local.get 0\n");
        for step in 0..150 {
            let number = function * 31 + step * 7;
            let _ = writeln!(text, "i32.const {number} i32.add local.get 0 i32.load offset={step} i32.xor");
        }
        text.push_str(")\n");
    }
    text.push_str("))");
    wat(&text)
}
