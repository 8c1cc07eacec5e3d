//! Programs that say whom the processes of a cgroup may connect to (`BPF_PROG_TYPE_CGROUP_SOCK_ADDR`, since Linux 4.17).
//!
//! They run before the kernel looks at the address (`tcp_v4_pre_connect`, net/ipv4/tcp_ipv4.c), for connect(2) and for whatever else
//! connects on its way (`__inet_stream_connect`, net/ipv4/af_inet.c). An IPv6 socket that connects to an IPv4-mapped address runs the
//! program of IPv6 alone, though what follows is of IPv4; so that one knows what such an address means.

use std::net::IpAddr;

use aya_obj::generated::bpf_insn;

use crate::assemble::{Alu, Assembler, Cond, Label, R0, R1, R2, R3, R4, R6, R7, Reg, Width};

/// One port of all addresses that begin alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    /// One of them.
    pub address: IpAddr,
    /// How many of its bits count.
    pub bits: u8,
    /// The port.
    pub port: u16,
}

/// Whose sockets a program is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// `BPF_CGROUP_INET4_CONNECT`
    V4,
    /// `BPF_CGROUP_INET6_CONNECT`
    V6,
}

/// There are more ranges than a program has room for: some thousand.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0} ranges of addresses are more than a program can compare")]
pub struct TooMany(usize);

/// Members of `struct bpf_sock_addr`, include/uapi/linux/bpf.h. Addresses and port are in network order.
const USER_IP4: i16 = 4;
const USER_IP6: i16 = 8;
const USER_PORT: i16 = 24;

/// The words of the address; one of IPv4 has the first alone.
const WORDS: [Reg; 4] = [R2, R3, R4, R7];
const PORT: Reg = R6;

/// A program that lets pass what is in one of these ranges, and nothing else: that is EPERM. The unspecified address, which means
/// another, is in none.
pub fn program(family: Family, granted: &[Range]) -> Result<Vec<bpf_insn>, TooMany> {
    let mut asm = Assembler::default();
    let (main, pass, refuse) = (asm.label(), asm.label(), asm.label());
    asm.function(main, "connections");
    asm.load(Width::W4, PORT, R1, USER_PORT);
    match family {
        Family::V4 => load_word(&mut asm, WORDS[0], USER_IP4),
        Family::V6 => {
            let own = asm.label();
            for (at, word) in (0..).zip(WORDS) {
                load_word(&mut asm, word, USER_IP6 + 4 * at);
            }
            // ::ffff:0:0/96
            asm.jump_if_imm(Cond::Ne, WORDS[0], 0, own);
            asm.jump_if_imm(Cond::Ne, WORDS[1], 0, own);
            asm.jump_if_imm(Cond::Ne, WORDS[2], i32::from_ne_bytes([0, 0, 0xff, 0xff]), own);
            asm.mov(WORDS[0], WORDS[3]);
            among(&mut asm, granted.iter().filter(|range| range.address.is_ipv4()), 1, (pass, refuse));
            asm.place(own);
        }
    }
    let (own, words) = match family {
        Family::V4 => (true, 1),
        Family::V6 => (false, 4),
    };
    among(&mut asm, granted.iter().filter(|range| range.address.is_ipv4() == own), words, (pass, refuse));
    for (label, verdict) in [(pass, 1), (refuse, 0)] {
        asm.place(label);
        asm.set(R0, verdict);
        asm.exit();
    }
    asm.finish().map(|code| code.insns).map_err(|_| TooMany(granted.len()))
}

/// A word of the address, its sign extended as that of an immediate operand is.
fn load_word(asm: &mut Assembler, word: Reg, offset: i16) {
    asm.load(Width::W4, word, R1, offset);
    asm.alu_imm(Alu::Lsh, word, 32);
    asm.alu_imm(Alu::Arsh, word, 32);
}

/// Goes to the first label if the address, of so many words, and the port are in one of the ranges, else to the second.
fn among<'r>(asm: &mut Assembler, ranges: impl Iterator<Item = &'r Range>, words: usize, (pass, refuse): (Label, Label)) {
    let words = &WORDS[..words];
    asm.set(R0, 0);
    words.iter().for_each(|word| asm.alu(Alu::Or, R0, *word));
    asm.jump_if_imm(Cond::Eq, R0, 0, refuse);
    for range in ranges {
        let next = asm.label();
        asm.jump_if_imm(Cond::Ne, PORT, range.port.to_be().into(), next);
        let bytes = match range.address {
            IpAddr::V4(address) => address.octets().to_vec(),
            IpAddr::V6(address) => address.octets().to_vec(),
        };
        let mut bits = u32::from(range.bits);
        for (word, bytes) in words.iter().zip(bytes.chunks_exact(4)) {
            let count = bits.min(32);
            bits -= count;
            // In host order the first bits are the high ones.
            let mask = u32::MAX.checked_shl(32 - count).unwrap_or(0);
            let value = bytes.iter().fold(0, |value, byte| value << 8 | u32::from(*byte)) & mask;
            let operand = |host: u32| host.to_be().cast_signed();
            match mask {
                0 => {}
                u32::MAX => asm.jump_if_imm(Cond::Ne, *word, operand(value), next),
                _ => {
                    asm.mov(R0, *word);
                    asm.alu_imm(Alu::And, R0, operand(mask));
                    asm.jump_if_imm(Cond::Ne, R0, operand(value), next);
                }
            }
        }
        asm.jump(pass);
        asm.place(next);
    }
    asm.jump(refuse);
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use std::net::SocketAddr;

    use aya_obj::generated::{
        BPF_ALU64, BPF_AND, BPF_ARSH, BPF_EXIT, BPF_JA, BPF_JEQ, BPF_JMP, BPF_JNE, BPF_LDX, BPF_LSH, BPF_MEM, BPF_MOV, BPF_OR,
        BPF_W, BPF_X,
    };

    use super::*;

    /// What a program says of a context: those few instructions that there are, as the kernel's documentation defines them.
    fn run(insns: &[bpf_insn], context: &[u8; 40]) -> u64 {
        let (mut registers, mut at) = ([0_u64; 11], 0_usize);
        loop {
            let insn = insns[at];
            let code = u32::from(insn.code);
            let (dst, src) = (usize::from(insn.dst_reg()), usize::from(insn.src_reg()));
            let operand = if code & BPF_X == 0 { i64::from(insn.imm).cast_unsigned() } else { registers[src] };
            let jump = |taken: bool| if taken { at.strict_add_signed(insn.off.into()) } else { at };
            at = match (code & 7, code & 0xf0) {
                (BPF_LDX, _) if code == BPF_LDX | BPF_MEM | BPF_W => {
                    assert_eq!(src, 1, "nothing but the context is read");
                    let from = usize::try_from(insn.off).unwrap();
                    registers[dst] = u32::from_ne_bytes(context[from..from + 4].try_into().unwrap()).into();
                    at
                }
                (BPF_ALU64, operation) => {
                    let value = registers[dst];
                    registers[dst] = match operation {
                        BPF_MOV => operand,
                        BPF_OR => value | operand,
                        BPF_AND => value & operand,
                        BPF_LSH => value << operand,
                        BPF_ARSH => (value.cast_signed() >> operand).cast_unsigned(),
                        other => panic!("{other:#x}"),
                    };
                    at
                }
                (BPF_JMP, BPF_EXIT) => return registers[0],
                (BPF_JMP, BPF_JA) => jump(true),
                (BPF_JMP, BPF_JEQ) => jump(registers[dst] == operand),
                (BPF_JMP, BPF_JNE) => jump(registers[dst] != operand),
                other => panic!("{other:?}"),
            } + 1;
        }
    }

    /// Whether a socket of the family of this address may connect to it.
    fn passes(granted: &[Range], peer: &str) -> bool {
        let peer: SocketAddr = peer.parse().unwrap();
        let mut context = [0xa5; 40];
        let family = match peer.ip() {
            IpAddr::V4(address) => {
                context[4..8].copy_from_slice(&address.octets());
                Family::V4
            }
            IpAddr::V6(address) => {
                context[8..24].copy_from_slice(&address.octets());
                Family::V6
            }
        };
        context[24..28].copy_from_slice(&u32::from(peer.port().to_be()).to_ne_bytes());
        match run(&program(family, granted).unwrap(), &context) {
            0 => false,
            1 => true,
            other => panic!("the kernel takes no {other}"),
        }
    }

    fn range(text: &str, bits: u8, port: u16) -> Range {
        Range { address: text.parse().unwrap(), bits, port }
    }

    /// An address and a port that are granted pass, by whichever socket; another port, address or family does not.
    #[test]
    fn single_addresses() {
        let granted = [range("127.0.0.1", 32, 4317), range("192.0.2.200", 32, 80), range("fd00::ff80:1", 128, 443)];
        let passing =
            ["127.0.0.1:4317", "[::ffff:127.0.0.1]:4317", "192.0.2.200:80", "[::ffff:192.0.2.200]:80", "[fd00::ff80:1]:443"];
        passing.iter().for_each(|peer| assert!(passes(&granted, peer), "{peer}"));
        let refused = [
            "127.0.0.2:4317",
            "[::ffff:127.0.0.2]:4317",
            "127.0.0.1:4318",
            "127.0.0.1:80",
            "[::127.0.0.1]:4317",
            "[::1]:4317",
            "[::1:ffff:127.0.0.1]:4317",
            "[1::ffff:127.0.0.1]:4317",
            "[fd00::ff80:2]:443",
            "[fd01::ff80:1]:443",
            "[fd00::1:ff80:1]:443",
            "[fd00::ff80:1]:444",
            "0.0.0.0:4317",
            "0.0.0.0:0",
            "[::]:443",
        ];
        refused.iter().for_each(|peer| assert!(!passes(&granted, peer), "{peer}"));
        refused.iter().chain(&passing).for_each(|peer| assert!(!passes(&[], peer), "{peer}"));
    }

    /// Of ranges so many bits count as they say, in any word and none; the unspecified address means another, and is in none.
    #[test]
    fn ranges() {
        let check = |granted: Range, inside: &[&str], outside: &[&str]| {
            inside.iter().for_each(|peer| assert!(passes(&[granted], peer), "{granted:?} {peer}"));
            outside.iter().for_each(|peer| assert!(!passes(&[granted], peer), "{granted:?} {peer}"));
        };
        check(range("10.0.0.0", 8, 1), &["10.0.0.1:1", "10.255.255.255:1", "[::ffff:10.9.8.7]:1"], &["11.0.0.0:1", "9.0.0.1:1"]);
        check(range("192.168.128.0", 17, 1), &["192.168.128.0:1", "192.168.255.9:1"], &["192.168.127.255:1", "192.168.0.1:1"]);
        check(range("0.0.0.0", 0, 1), &["192.0.2.1:1", "[::ffff:127.0.0.1]:1"], &["0.0.0.0:1", "[::ffff:0.0.0.0]:1", "[::1]:1"]);
        check(range("255.255.255.254", 31, 1), &["255.255.255.254:1", "255.255.255.255:1"], &["255.255.255.253:1"]);
        check(
            range("::", 0, 1),
            &["[::1]:1", "[2001:db8::]:1", "[8000::]:1"],
            &["[::]:1", "127.0.0.1:1", "[::ffff:127.0.0.1]:1"],
        );
        check(range("fd00::", 8, 1), &["[fd00::1]:1", "[fdff::7]:1"], &["[fe00::]:1", "[fc00::]:1"]);
        check(range("2001:db8:8000::", 33, 1), &["[2001:db8:8000::]:1", "[2001:db8:ffff::1]:1"], &["[2001:db8:7fff::]:1"]);
        check(range("::fffe:0:0", 95, 1), &["[::fffe:0:1]:1"], &["[::ffff:0:1]:1", "0.0.0.1:1", "[::fffd:0:1]:1"]);
    }

    /// As many ranges fit as a plugin can be granted, the longest; where no jump reaches over them that is told.
    #[test]
    fn many() {
        let granted = |count: u16| (0..count).map(|at| range(&format!("fd00:{at:x}::1"), 127, at)).collect::<Vec<_>>();
        let insns = program(Family::V6, &granted(256)).unwrap();
        // A kernel before 5.2 takes as many.
        assert!(insns.len() < 4096, "{}", insns.len());
        assert!(passes(&granted(256), "[fd00:ff::1]:255"));
        assert_eq!(program(Family::V6, &granted(10_000)).err(), Some(TooMany(10_000)));
    }
}
