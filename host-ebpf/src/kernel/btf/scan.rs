//! The file: header, strings, and where each type begins.

use std::{ops::Range, sync::OnceLock};

use super::names::{ConstantIndex, Index};

pub(super) const MAGIC: u16 = 0xeb9f;
const HEADER_SIZE: usize = 24;
const TYPE_SIZE: usize = 12;

/// A BTF file.
pub(super) struct File {
    pub(super) bytes: Vec<u8>,
    /// Where the strings are in `bytes`; the last byte is NUL, unless there is none, as in a module that needs none of its own.
    strings: Range<usize>,
    /// The offset by which types name the first of the strings: behind those of the file that this one goes on from.
    first_string: usize,
    /// Where each type is in `bytes`.
    pub(super) types: Vec<u32>,
    /// The number of the first type: 1 in the kernel's file, as type 0 is `void`.
    pub(super) first: u32,
    pub(super) names: OnceLock<Index>,
    pub(super) constants: OnceLock<ConstantIndex>,
}

/// What a type is (`BTF_KIND_*`, include/uapi/linux/btf.h).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Int,
    Pointer,
    Array,
    Struct,
    Union,
    Enum,
    Forward,
    Typedef,
    Volatile,
    Const,
    Restrict,
    Function,
    FunctionType,
    Variable,
    Section,
    Float,
    DeclTag,
    TypeTag,
    Enum64,
}

impl Kind {
    fn new(number: u32) -> Option<Kind> {
        Some(match number {
            1 => Kind::Int,
            2 => Kind::Pointer,
            3 => Kind::Array,
            4 => Kind::Struct,
            5 => Kind::Union,
            6 => Kind::Enum,
            7 => Kind::Forward,
            8 => Kind::Typedef,
            9 => Kind::Volatile,
            10 => Kind::Const,
            11 => Kind::Restrict,
            12 => Kind::Function,
            13 => Kind::FunctionType,
            14 => Kind::Variable,
            15 => Kind::Section,
            16 => Kind::Float,
            17 => Kind::DeclTag,
            18 => Kind::TypeTag,
            19 => Kind::Enum64,
            _ => return None,
        })
    }

    /// How many bytes follow the type, of which there are `count` elements.
    fn extra(self, count: usize) -> usize {
        match self {
            Kind::Int | Kind::Variable | Kind::DeclTag => 4,
            Kind::Array => 12,
            Kind::Struct | Kind::Union | Kind::Section | Kind::Enum64 => 12 * count,
            Kind::Enum | Kind::FunctionType => 8 * count,
            _ => 0,
        }
    }
}

/// `struct btf_type`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Record {
    pub(super) name: u32,
    pub(super) kind: Kind,
    /// `kind_flag`: of an enum, its values are signed; of a struct, member offsets carry the size of bit fields.
    pub(super) flag: bool,
    /// The number of elements that follow.
    pub(super) count: usize,
    /// The size in bytes, or the type that this one refers to.
    pub(super) size_or_type: u32,
    /// Where in the bytes its elements begin.
    pub(super) elements: usize,
}

impl File {
    /// Finds the strings and every type, and checks that each is whole. `base` is the file that this one goes on from.
    pub(super) fn read(bytes: Vec<u8>, base: Option<&File>) -> Result<File, String> {
        let magic = bytes.first_chunk().map(|b| u16::from_ne_bytes(*b)).ok_or("the file is empty")?;
        if magic == MAGIC.swap_bytes() {
            return Err("it is of another byte order than this machine".to_owned());
        }
        if magic != MAGIC {
            return Err(format!("it begins with {magic:#06x}, not with {MAGIC:#06x}"));
        }
        let word = |at| read_word(&bytes, at).map(|word| word as usize).ok_or("its header is cut short");
        let header = word(4)?;
        if header < HEADER_SIZE {
            return Err(format!("its header says that it has {header} bytes, which is less than {HEADER_SIZE}"));
        }
        let section = |at: usize, name: &str| {
            let (offset, length) = (word(at)?, word(at + 4)?);
            let start = header.checked_add(offset).ok_or("its header has impossible offsets")?;
            let end = start.checked_add(length).filter(|end| *end <= bytes.len());
            end.map(|end| start..end).ok_or_else(|| format!("its {name} end beyond the file's {} bytes", bytes.len()))
        };
        let (types, strings) = (section(8, "types")?, section(16, "strings")?);
        let last = bytes.get(strings.clone()).and_then(<[u8]>::last);
        if last != Some(&0) && (last.is_some() || base.is_none()) {
            return Err("its strings do not end with a NUL byte".to_owned());
        }
        let (first, first_string) = base.map_or((1, 0), |base| (base.first + base.types.len() as u32, base.end_of_strings()));
        let mut offsets = Vec::with_capacity(types.len() / 24);
        let mut at = types.start;
        while at < types.end {
            let number = first as usize + offsets.len();
            let found = read_type(&bytes, at).ok_or_else(|| {
                format!("type {number} is cut short or of a kind that this version of Portcullis does not know")
            })?;
            let end = found.elements.checked_add(found.kind.extra(found.count)).filter(|end| *end <= types.end);
            let end = end.ok_or_else(|| format!("type {number} ends beyond the types"))?;
            if found.name as usize >= first_string + strings.len() {
                return Err(format!("the name of type {number} is beyond the strings"));
            }
            offsets.push(u32::try_from(at).map_err(|_| "it is larger than 4 GiB")?);
            at = end;
        }
        let (names, constants) = (OnceLock::new(), OnceLock::new());
        Ok(File { bytes, strings, first_string, types: offsets, first, names, constants })
    }

    /// The type of that number, if this file has it.
    pub(super) fn get(&self, number: u32) -> Option<Record> {
        let at = self.types.get(usize::try_from(number.checked_sub(self.first)?).ok()?)?;
        read_type(&self.bytes, *at as usize)
    }

    /// All types with their numbers.
    pub(super) fn all(&self) -> impl DoubleEndedIterator<Item = (u32, Record)> + ExactSizeIterator {
        self.types.iter().enumerate().map(|(i, at)| {
            let nothing = Record { name: 0, kind: Kind::Forward, flag: false, count: 0, size_or_type: 0, elements: 0 };
            (self.first + i as u32, read_type(&self.bytes, *at as usize).unwrap_or(nothing))
        })
    }

    pub(super) fn word(&self, at: usize) -> Option<u32> {
        read_word(&self.bytes, at)
    }

    /// The strings from that offset on, if it is one of this file's.
    pub(super) fn strings_from(&self, offset: u32) -> Option<&[u8]> {
        let offset = (offset as usize).checked_sub(self.first_string)?;
        self.bytes.get(self.strings.start.checked_add(offset)?..self.strings.end)
    }

    /// One more than the offset of the last string.
    fn end_of_strings(&self) -> usize {
        self.first_string + self.strings.len()
    }
}

fn read_type(bytes: &[u8], at: usize) -> Option<Record> {
    let [name, info, size_or_type] = *bytes.get(at..)?.first_chunk::<TYPE_SIZE>()?.as_chunks::<4>().0 else { return None };
    let (name, info, size_or_type) = (u32::from_ne_bytes(name), u32::from_ne_bytes(info), u32::from_ne_bytes(size_or_type));
    let count = (info & 0xffff) as usize;
    Some(Record {
        name,
        kind: Kind::new(info >> 24 & 0x1f)?,
        flag: info >> 31 != 0,
        count,
        size_or_type,
        elements: at + TYPE_SIZE,
    })
}

fn read_word(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().map(|word| u32::from_ne_bytes(*word))
}
