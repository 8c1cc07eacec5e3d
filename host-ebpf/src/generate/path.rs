//! Paths of files, by a walk from the file to the root: bpf_d_path() does the same for few programs alone (`btf_allowlist_d_path`,
//! kernel/trace/bpf_trace.c).
//!
//! Each round goes from a dentry to its parent and puts its name in front of what is there, or from a mount's root to where that is
//! mounted, as prepend_path() does (fs/d_path.c). All that changes from round to round is in the scratch map, where the verifier does
//! not follow it: it then sees the same at the begin of each round, whichever way the last one went.

use aya_obj::generated::bpf_func_id::{BPF_FUNC_probe_read_kernel, BPF_FUNC_probe_read_kernel_str};

use super::{function::Generator, room::Spot};
use crate::{
    assemble::{Alu, Cond, FP, Label, R0, R1, R2, R3, R4, Reg, Width},
    check::ir::{Block, Path, PathLayout},
    counters::Counter,
    record,
};

/// How many names and mounts a path has at most.
const ROUNDS: i32 = 64;
/// How many bytes a path has at most: [`Path::keep`] is not above that.
const LONGEST: u32 = 1024;
/// What is in front of a path that was cut.
const MARK: &[u8] = b"...";

/// Where things are in the room of a walk, in bytes from its first.
#[derive(Clone, Copy)]
struct Places {
    /// What was read of the `struct path`, which is then kept as what the walk has come to.
    path: u32,
    /// What was read of the dentry, and of the mount.
    entry: u32,
    mount: u32,
    /// Where the text begins in its room, in which it ends at byte `keep`.
    begin: u32,
    /// The text's room, as large again as the text: a name may have any length, as far as the verifier knows.
    text: u32,
    end: u32,
}

impl Places {
    fn new(layout: &PathLayout) -> Places {
        let after = |at: u32, block: Block| at.saturating_add(block.size).next_multiple_of(8);
        let entry = after(0, layout.path);
        let mount = after(entry, layout.entry);
        let begin = after(mount, layout.mount);
        let text = begin + 8;
        Places { path: 0, entry, mount, begin, text, end: text + 2 * LONGEST + 8 }
    }
}

/// A walk while its code is made.
struct Walk<'a> {
    room: Spot,
    places: Places,
    layout: &'a PathLayout,
    keep: u32,
    /// What could not be read ends here.
    fault: Label,
}

impl Generator<'_> {
    /// Writes a path and its NUL byte, `room` bytes at most. What is longer than it is to be kept loses its front; with `counted` that
    /// is counted, and marked in the record.
    pub(super) fn put_path(&mut self, path: &Path, at: Spot, room: u32, counted: bool, field: Option<usize>) {
        let places = Places::new(&path.layout);
        let walk = Walk {
            room: self.scratch_room(places.end),
            places,
            layout: &path.layout,
            keep: path.keep.min(LONGEST),
            fault: self.asm.label(),
        };
        let (root, alone, partial, cut, done) =
            (self.asm.label(), self.asm.label(), self.asm.label(), self.asm.label(), self.asm.label());
        self.begin_walk(&walk, path);
        let round = self.allocate(8);
        self.rounds(&walk, round, (root, alone, partial, cut), done);

        // A name for which there is no room: its end.
        self.asm.place(partial);
        self.load_name(&walk);
        self.asm.alu(Alu::Add, R3, R2);
        self.asm.alu(Alu::Sub, R3, R4);
        self.asm.alu_imm(Alu::And, R4, 2 * LONGEST as i32 - 1);
        self.asm.mov(R2, R4);
        let base = self.base(&walk);
        self.asm.set(R0, 0);
        self.asm.store(Width::W8, base, self.offset(&walk, places.begin), R0);
        self.address(R1, walk.room.at(places.text));
        self.read(walk.fault);
        self.asm.place(cut);
        self.mark_cut(&walk);
        if counted {
            self.mark(record::CUT, field);
            self.bump(Counter::Truncated);
        }
        self.asm.jump(done);

        self.asm.place(walk.fault);
        self.mark(record::ABSENT, field);
        self.bump(Counter::ReadFault);
        self.empty(&walk);
        self.asm.jump(done);

        // What has no place among files, a pipe or a socket, has its name alone.
        self.asm.place(alone);
        self.load_name(&walk);
        self.asm.jump_if_imm(Cond::Eq, R2, 0, done);
        self.asm.jump_if_imm(Cond::Gt, R2, walk.keep as i32, partial);
        self.asm.set(R4, walk.keep.into());
        self.asm.alu(Alu::Sub, R4, R2);
        self.put_begin(&walk);
        self.asm.alu_imm(Alu::Add, R1, self.offset(&walk, places.text).into());
        self.read(walk.fault);
        self.asm.jump(done);

        // The root itself has no name.
        self.asm.place(root);
        let base = self.base(&walk);
        self.asm.load(Width::W8, R4, base, self.offset(&walk, places.begin));
        self.asm.jump_if_imm(Cond::Ne, R4, walk.keep as i32, done);
        self.asm.store_imm(Width::W1, base, self.offset(&walk, places.text + walk.keep - 1), b'/'.into());
        self.asm.set(R4, (walk.keep - 1).into());
        self.asm.store(Width::W8, base, self.offset(&walk, places.begin), R4);

        self.asm.place(done);
        // To the verifier what follows is then the same after any number of rounds.
        self.asm.set(R0, 0);
        self.asm.store(Width::W8, FP, round, R0);
        self.release(8);
        let base = self.base(&walk);
        self.asm.load(Width::W8, R3, base, self.offset(&walk, places.begin));
        self.asm.alu_imm(Alu::And, R3, 2 * LONGEST as i32 - 1);
        self.asm.alu(Alu::Add, R3, base);
        self.asm.alu_imm(Alu::Add, R3, self.offset(&walk, places.text).into());
        self.address(R1, at);
        self.asm.set(R2, room.into());
        self.asm.call(BPF_FUNC_probe_read_kernel_str);
        self.give_back(places.end);
    }

    /// Reads the `struct path` and its mount; the text is empty.
    fn begin_walk(&mut self, walk: &Walk<'_>, path: &Path) {
        let (places, layout) = (walk.places, walk.layout);
        self.value(&path.address);
        self.asm.mov(R3, R0);
        self.empty(walk);
        self.asm.store_imm(Width::W1, R1, self.offset(walk, places.text + walk.keep), 0);
        self.read_block(walk, layout.path, places.path, 0);
        let base = self.base(walk);
        self.asm.load(Width::W8, R3, base, self.offset(walk, places.path + layout.mnt));
        self.read_block(walk, layout.mount, places.mount, layout.vfsmount);
    }

    fn rounds(&mut self, walk: &Walk<'_>, round: i16, (root, alone, partial, cut): (Label, Label, Label, Label), done: Label) {
        let (places, layout) = (walk.places, walk.layout);
        let at = |this: &Self, place: u32| this.offset(walk, place);
        let (dentry, mnt) = (places.path + layout.dentry, places.path + layout.mnt);
        let (top, across, name, inner) = (self.asm.label(), self.asm.label(), self.asm.label(), self.asm.label());
        self.asm.set(R0, 0);
        self.asm.store(Width::W8, FP, round, R0);

        self.asm.place(top);
        self.asm.load(Width::W8, R0, FP, round);
        self.asm.jump_if_imm(Cond::Ge, R0, ROUNDS, cut);
        self.asm.alu_imm(Alu::Add, R0, 1);
        self.asm.store(Width::W8, FP, round, R0);
        let base = self.base(walk);
        self.asm.load(Width::W8, R2, base, at(self, dentry));
        self.asm.load(Width::W8, R3, base, at(self, places.mount + layout.root));
        self.asm.jump_if(Cond::Ne, R2, R3, name);

        // The root of a mount: on with the place where that is, if it is not the first of all.
        self.asm.load(Width::W8, R3, base, at(self, places.mount + layout.above));
        self.asm.alu_imm(Alu::Add, R3, layout.vfsmount as i32);
        self.asm.load(Width::W8, R2, base, at(self, mnt));
        // The verifier follows what does not jump first: so it comes to the end at once, and to the rounds one after the other later.
        self.asm.jump_if(Cond::Ne, R2, R3, across);
        self.asm.jump(root);
        self.asm.place(across);
        self.asm.store(Width::W8, base, at(self, mnt), R3);
        self.asm.load(Width::W8, R2, base, at(self, places.mount + layout.mountpoint));
        self.asm.store(Width::W8, base, at(self, dentry), R2);
        self.read_block(walk, layout.mount, places.mount, layout.vfsmount);
        self.asm.jump(top);

        self.asm.place(name);
        self.asm.mov(R3, R2);
        self.read_block(walk, layout.entry, places.entry, 0);
        let base = self.base(walk);
        self.asm.load(Width::W8, R0, base, at(self, places.entry + layout.parent));
        self.asm.load(Width::W8, R3, base, at(self, dentry));
        self.asm.store(Width::W8, base, at(self, dentry), R0);
        self.asm.jump_if(Cond::Ne, R0, R3, inner);
        // Its own parent, and no mount's root.
        self.asm.load(Width::W8, R4, base, at(self, places.begin));
        self.asm.jump_if_imm(Cond::Eq, R4, walk.keep as i32, alone);
        self.asm.jump(done);

        self.asm.place(inner);
        self.load_name(walk);
        self.asm.jump_if(Cond::Ge, R2, R4, partial);
        self.asm.alu(Alu::Sub, R4, R2);
        self.asm.alu_imm(Alu::Sub, R4, 1);
        // Neither mask changes anything; the verifier wants to see them.
        self.asm.alu_imm(Alu::And, R4, LONGEST as i32 - 1);
        self.asm.alu_imm(Alu::And, R2, LONGEST as i32 - 1);
        self.put_begin(walk);
        self.asm.store_imm(Width::W1, R1, at(self, places.text), b'/'.into());
        self.asm.alu_imm(Alu::Add, R1, i32::from(at(self, places.text)) + 1);
        self.read(walk.fault);
        self.asm.jump(top);
    }

    /// r1: the scratch map's value.
    fn base(&mut self, walk: &Walk<'_>) -> Reg {
        self.reach(walk.room, R1).0
    }

    /// Where something is in the scratch map's value.
    fn offset(&self, walk: &Walk<'_>, place: u32) -> i16 {
        walk.room.at(place).offset()
    }

    /// r1: the scratch map's value. r2: the length of the dentry's name. r3: where it is. r4: where the text begins.
    fn load_name(&mut self, walk: &Walk<'_>) {
        let (places, layout) = (walk.places, walk.layout);
        let base = self.base(walk);
        self.asm.load(Width::W4, R2, base, self.offset(walk, places.entry + layout.length));
        self.asm.load(Width::W8, R3, base, self.offset(walk, places.entry + layout.name));
        self.asm.load(Width::W8, R4, base, self.offset(walk, places.begin));
    }

    /// The text begins at r4, which is added to r1.
    fn put_begin(&mut self, walk: &Walk<'_>) {
        self.asm.store(Width::W8, R1, self.offset(walk, walk.places.begin), R4);
        self.asm.alu(Alu::Add, R1, R4);
    }

    /// The text is empty.
    fn empty(&mut self, walk: &Walk<'_>) {
        let base = self.base(walk);
        self.asm.set(R0, walk.keep.into());
        self.asm.store(Width::W8, base, self.offset(walk, walk.places.begin), R0);
    }

    /// Puts [`MARK`] in front of the text, or over its front.
    fn mark_cut(&mut self, walk: &Walk<'_>) {
        let fits = self.asm.label();
        let base = self.base(walk);
        self.asm.load(Width::W8, R4, base, self.offset(walk, walk.places.begin));
        self.asm.alu_imm(Alu::Sub, R4, MARK.len() as i32);
        self.asm.jump_if_imm(Cond::SignedGe, R4, 0, fits);
        self.asm.set(R4, 0);
        self.asm.place(fits);
        self.asm.alu_imm(Alu::And, R4, LONGEST as i32 - 1);
        self.put_begin(walk);
        for (i, byte) in MARK.iter().enumerate() {
            self.asm.store_imm(Width::W1, R1, self.offset(walk, walk.places.text + i as u32), (*byte).into());
        }
    }

    /// Reads a block of the struct that has `within` bytes before what r3 points to.
    fn read_block(&mut self, walk: &Walk<'_>, block: Block, place: u32, within: u32) {
        let distance = block.start as i32 - within as i32;
        if distance != 0 {
            self.asm.alu_imm(Alu::Add, R3, distance);
        }
        self.asm.set(R2, block.size.into());
        self.address(R1, walk.room.at(place));
        self.read(walk.fault);
    }

    /// Reads r2 bytes at r3 to r1.
    fn read(&mut self, fault: Label) {
        self.asm.call(BPF_FUNC_probe_read_kernel);
        self.asm.jump_if_imm(Cond::Ne, R0, 0, fault);
    }
}
