//! Programs without one of the mechanisms on which the guarantees rest: for the tests that prove that each is needed.
//!
//! A test of a guarantee looks for what must not be. That it finds nothing says something only if it finds it in programs that lack the
//! mechanism; so the generator can leave each out, at the place where it is. No manifest and no command line comes here.

/// What a program lacks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Broken {
    /// The one load of the gate word: a function that has counted its hit loads the word again before it acts, and leaves if the gate
    /// was closed meanwhile (G2).
    ReadsGateTwice,
    /// The rule that an exit needs its entry: one that has none takes it to have begun at 0 and runs the body, as a program does that
    /// looks the time of the entry up and finds none. Links for both ends of a call let every return through, too. Not in spans that
    /// keep call stacks (G4).
    NoPairing,
    /// The generation: entries bear none, and exits do not ask for it. What was entered before a pause pairs after it, and nobody can
    /// tell whether an entry is of this opening (G5, G9).
    NoGeneration,
}
