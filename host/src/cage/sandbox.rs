//! What is asked of cages, by a bundle or on the command line.

use std::fmt::Write as _;

use super::{Missing, User};

/// What is asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sandbox {
    /// Which layers there must be.
    pub layers: Layers,
    /// Who the processes are to be; `None`: each a user of its own.
    pub user: Option<User>,
}

/// Which layers a cage must have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub enum Layers {
    /// Those that this kernel has, and that this user may have; the report says which are missing.
    #[default]
    Available,
    /// All of them; else nothing is run.
    Required,
}

impl Layers {
    /// As in a manifest.
    pub fn as_str(self) -> &'static str {
        match self {
            Layers::Available => "available",
            Layers::Required => "required",
        }
    }
}

/// A cage lacks layers that it was to have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lacking(pub Vec<Missing>);

impl std::fmt::Display for Lacking {
    /// A line for each layer: what the kernel said, and the way out.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut text = String::from("`sandbox` requires every layer, and this kernel, or this user, lacks");
        for missing in &self.0 {
            write!(text, "\n  {missing}: {}", missing.layer.way_out())?;
        }
        f.write_str(&text)?;
        f.write_str("\n`sandbox = \"available\"` does with the layers that there are")
    }
}

impl std::error::Error for Lacking {}

impl Sandbox {
    /// Refuses a cage that lacks what it must have.
    pub fn check(self, missing: &[Missing]) -> Result<(), Lacking> {
        match self.layers {
            Layers::Required if !missing.is_empty() => Err(Lacking(missing.to_vec())),
            _ => Ok(()),
        }
    }
}
