//! stub: helper "kernel" writes this
/// The number of a system call by the name that its tracepoints have (`newstat`, `umount`); `None` for a name the table lacks.
pub fn number(_name: &str) -> Option<u32> { unimplemented!() }
/// The offset in `struct pt_regs` of argument `index`, 0 to 5.
pub fn argument_offset(_index: usize) -> u32 { unimplemented!() }
/// The offset in `struct pt_regs` of the system call's number.
pub const NUMBER_OFFSET: u32 = 120;
