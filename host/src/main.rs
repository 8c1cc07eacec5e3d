//! The executable: the command line, and the worker that it starts itself as.

fn main() {
    if std::env::args_os().nth(1).is_some_and(|argument| argument == "worker") {
        portcullis::worker::main();
    }
}
