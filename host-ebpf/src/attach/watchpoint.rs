//! `watchpoint:ADDRESS:LENGTH:MODE`: memory that is written, read or run, by the processor's debug registers.

use super::{AttachError, ContextKind, Kind, Listed, Site, Target, glob, number};
use crate::{
    kernel::{Kernel, SourceError},
    output::{Hook, is_kernel_address},
};

/// `HW_BREAKPOINT_R` and so on, include/uapi/linux/hw_breakpoint.h, by the letters of bpftrace.
const LETTERS: [(char, u32); 3] = [('r', READ), ('w', 2), ('x', EXECUTE)];
const READ: u32 = 1;
const EXECUTE: u32 = 4;

const NOTATION: &str = "watchpoint:ADDRESS:LENGTH:MODE";

pub(super) struct Watchpoint;

impl Kind for Watchpoint {
    fn names(&self) -> &'static [&'static str] {
        &["watchpoint", "w"]
    }

    fn notation(&self) -> &'static str {
        NOTATION
    }

    fn lacking(&self, rest: &str, kernel: &dyn Kernel) -> Option<AttachError> {
        let message = "this kernel lends nobody the processor's debug registers (CONFIG_HAVE_HW_BREAKPOINT)";
        (!kernel.features().watchpoint).then(|| AttachError::missing(0..rest.len(), message))
    }

    fn expand(&self, rest: &str, kernel: &dyn Kernel) -> Result<Vec<Target>, AttachError> {
        let place = Place::parse(rest)?;
        let address = place.address(kernel)?;
        let (length, access) = (place.length()?, place.access()?);
        if access == EXECUTE && length != 8 {
            let message = "what is run is watched by 8 bytes, whatever the length of the instruction";
            return Err(AttachError::wrong(place.length_at(), message).help(format!("watchpoint:{}:8:x", place.address)));
        }
        if access != EXECUTE && !address.is_multiple_of(length.into()) {
            let message = format!("the address is no multiple of the length, {length}, as the processor needs it to be");
            return Err(AttachError::wrong(0..place.address.len(), message));
        }
        let letters = LETTERS.iter().filter(|(_, bit)| access & bit != 0).map(|(letter, _)| letter);
        let point = format!("watchpoint:{}:{length}:{}", place.name(address), letters.collect::<String>());
        let site = Site::new(Hook::Breakpoint { address, length, access }, ContextKind::Registers, "");
        Ok(vec![Target { point, site, entry: None, key: None }])
    }

    fn system_wide(&self, target: &Target, rest: &str) -> Result<(), AttachError> {
        match target.site.hook {
            Hook::Breakpoint { address, .. } if !is_kernel_address(address) => {
                let message =
                    "this is an address of a process, and every process is traced, each of which has something else there";
                let at = 0..rest.split(':').next().unwrap_or_default().len();
                Err(AttachError::wrong(at, message).help("trace one process or a command: `-p PID`, `-- COMMAND`"))
            }
            _ => Ok(()),
        }
    }

    fn list(&self, pattern: &str, _: &dyn Kernel) -> Result<Vec<Listed>, SourceError> {
        // There is nothing to list but how it is written.
        let listed = Listed { point: NOTATION.to_owned(), arguments: Vec::new(), retval: None };
        Ok(if glob::matches(pattern, "ADDRESS:LENGTH:MODE") { vec![listed] } else { Vec::new() })
    }
}

/// The three parts.
struct Place<'a> {
    address: &'a str,
    length: &'a str,
    mode: &'a str,
}

impl Place<'_> {
    fn parse(rest: &str) -> Result<Place<'_>, AttachError> {
        let mut parts = rest.split(':');
        match (parts.next(), parts.next(), parts.next(), parts.next()) {
            (Some(address), Some(length), Some(mode), None) => Ok(Place { address, length, mode }),
            _ => {
                let message = "an address, a length and a mode belong here";
                Err(AttachError::wrong(0..rest.len(), message).help(format!("{NOTATION}, as in watchpoint:jiffies_64:8:w")))
            }
        }
    }

    /// A number, or the name of a symbol of the kernel.
    fn address(&self, kernel: &dyn Kernel) -> Result<u64, AttachError> {
        let span = 0..self.address.len();
        if self.address.starts_with(|first: char| first.is_ascii_digit()) {
            return number(self.address).ok_or_else(|| AttachError::wrong(span, "this is no address").help("as in 0x7ffd0010"));
        }
        let found = kernel.symbol(self.address).map_err(|e| AttachError::source(span.clone(), &e))?;
        found
            .map(|symbol| symbol.start)
            .ok_or_else(|| AttachError::missing(span, format!("this kernel has no symbol `{}`", self.address)))
    }

    /// What the point is called: a symbol by its name, which is the same at each boot.
    fn name(&self, address: u64) -> String {
        if number(self.address).is_some() { format!("{address:#x}") } else { self.address.to_owned() }
    }

    fn length_at(&self) -> std::ops::Range<usize> {
        let from = self.address.len() + 1;
        from..from + self.length.len()
    }

    fn length(&self) -> Result<u8, AttachError> {
        match number(self.length) {
            Some(length @ (1 | 2 | 4 | 8)) => Ok(length as u8),
            _ => Err(AttachError::wrong(self.length_at(), "the length is 1, 2, 4 or 8 bytes")),
        }
    }

    fn access(&self) -> Result<u32, AttachError> {
        let from = self.length_at().end + 1;
        let wrong = |message: &str, help: &str| Err(AttachError::wrong(from..from + self.mode.len(), message).help(help));
        let mut access = 0;
        for letter in self.mode.chars() {
            match LETTERS.iter().find(|(known, _)| *known == letter) {
                Some((_, bit)) if access & bit == 0 => access |= bit,
                _ => {
                    return wrong(
                        "the mode is made of `r`, `w` and `x`",
                        "`w`: what writes, `rw`: and what reads, `x`: what runs",
                    );
                }
            }
        }
        match access {
            0 => wrong("a mode belongs here", "`w`: what writes, `rw`: and what reads, `x`: what runs"),
            // Registers of x86-64 know no such mode (arch_build_bp_info(), arch/x86/kernel/hw_breakpoint.c).
            READ => wrong("the processor can't watch what only reads", "`rw` hits at reads and writes"),
            _ if access & EXECUTE != 0 && access != EXECUTE => {
                wrong("the processor watches what runs apart from the rest", "just `x`")
            }
            _ => Ok(access),
        }
    }
}
