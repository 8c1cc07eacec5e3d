//! ELF files and their debug information. Only the symbolizer process comes here.

use std::os::fd::AsFd;

use object::{
    CompressionFormat, Endianness, Object, ObjectSection, ObjectSegment, ObjectSymbol, SymbolFlags, SymbolKind, SymbolSection,
};
use portcullis_ebpf::attach::glob;
use rustix::mm::{MapFlags, ProtFlags};

use super::{
    UsdtSite, UserFunction, UserSymbol,
    name::{Pattern, readable, text},
    protocol::{Found, Links, MAX_FRAMES, MAX_MATCHES, cut},
};

/// What is read of a file, and of addresses of type `u64`.
type Reader = gimli::EndianSlice<'static, gimli::RunTimeEndian>;

/// `STT_GNU_IFUNC`, elf.h: its value is not the function but what chooses one.
const IFUNC: u8 = 10;

/// A debug section may be this long when it is no longer compressed, bytes.
const MAX_SECTION: u64 = 512 << 20;

/// A parsed file.
///
/// Its mapping is never undone, so what is parsed can point into it; the host starts a new symbolizer now and then.
pub(super) struct File {
    data: &'static [u8],
    elf: object::File<'static>,
    /// The file with its debug information, where that is another.
    debug: Option<object::File<'static>>,
    segments: Vec<Segment>,
    symbols: Option<Vec<Symbol>>,
    lines: Lines,
}

enum Lines {
    Unread,
    None,
    Read(Box<addr2line::Context<Reader>>),
}

/// What the loader maps.
struct Segment {
    offset: u64,
    size: u64,
    address: u64,
}

/// A function in the symbol table.
struct Symbol {
    start: u64,
    size: u64,
    name: &'static [u8],
    /// Of several names of an address, the one with the least is shown.
    rank: u8,
    indirect: bool,
}

impl File {
    /// Parses what every request needs: headers.
    pub(super) fn open(fd: impl AsFd) -> Result<File, String> {
        let data = map(fd)?;
        let elf = parse(data)?;
        let segments = elf.segments().map(|segment| {
            let (offset, size) = segment.file_range();
            Segment { offset, size, address: segment.address() }
        });
        let segments = segments.collect();
        Ok(File { data, elf, debug: None, segments, symbols: None, lines: Lines::Unread })
    }

    /// Where the debug information is.
    pub(super) fn links(&self) -> Links {
        let build_id = self.elf.build_id().ok().flatten().filter(|id| id.len() <= 64).unwrap_or_default();
        let name = self.elf.gnu_debuglink().ok().flatten().and_then(|(name, _)| String::from_utf8(name.to_vec()).ok());
        Links { debug: has_debug(&self.elf), build_id: build_id.to_vec(), name: name.filter(|name| name.len() <= 255) }
    }

    /// Takes a file with debug information, if it is this one's: the same build id.
    pub(super) fn set_debug(&mut self, fd: impl AsFd) -> Result<bool, String> {
        let debug = parse(map(fd)?)?;
        let id = |elf: &object::File<'static>| elf.build_id().ok().flatten();
        let same = id(&self.elf).is_some() && id(&self.elf) == id(&debug);
        if same {
            (self.debug, self.symbols, self.lines) = (Some(debug), None, Lines::Unread);
        }
        Ok(same)
    }

    /// What is at an offset of the file, innermost first.
    pub(super) fn symbolize(&mut self, offset: u64, lines: bool) -> Vec<Found> {
        let Some(address) = self.address(offset) else { return Vec::new() };
        let symbol = self.symbol(address).map(|symbol| (readable(&text(symbol.name)), address - symbol.start));
        let mut frames = if lines { self.inlined(address) } else { Vec::new() };
        match (frames.last_mut(), symbol) {
            // The symbol's name says more than that of the debug information, which lacks the name space, say.
            (Some(outermost), Some((name, offset))) => {
                (outermost.function, outermost.offset) = (Some(name), Some(offset));
            }
            (None, Some((name, offset))) => {
                frames.push(Found { function: Some(name), offset: Some(offset), ..Found::default() });
            }
            (_, None) => {}
        }
        frames
    }

    /// What the debug information says.
    fn inlined(&mut self, address: u64) -> Vec<Found> {
        if let Lines::Unread = self.lines {
            let context = self.context();
            self.lines = context.map_or(Lines::None, |context| Lines::Read(Box::new(context)));
        }
        let Lines::Read(context) = &self.lines else { return Vec::new() };
        let Ok(mut frames) = context.find_frames(address).skip_all_loads() else { return Vec::new() };
        let mut found = Vec::new();
        while let Ok(Some(frame)) = frames.next() {
            if found.len() == MAX_FRAMES {
                break;
            }
            let function = frame.function.as_ref().and_then(|name| name.raw_name().ok()).map(|name| readable(&name));
            let location = frame.location.as_ref();
            found.push(Found {
                function,
                offset: None,
                file: location.and_then(|location| location.file).map(|file| cut(file.to_owned())),
                // 0 says that there is none.
                line: location.and_then(|location| location.line).filter(|&line| line != 0),
                inlined: true,
            });
        }
        if let Some(outermost) = found.last_mut() {
            outermost.inlined = false;
        }
        found
    }

    fn context(&self) -> Option<addr2line::Context<Reader>> {
        let elf = self.debug.as_ref().filter(|debug| has_debug(debug)).unwrap_or(&self.elf);
        let endian = match elf.endianness() {
            Endianness::Little => gimli::RunTimeEndian::Little,
            Endianness::Big => gimli::RunTimeEndian::Big,
        };
        let load = |id: gimli::SectionId| -> Result<Reader, gimli::Error> {
            Ok(gimli::EndianSlice::new(section(elf, id.name()).unwrap_or_default(), endian))
        };
        addr2line::Context::from_dwarf(gimli::Dwarf::load(load).ok()?).ok()
    }

    /// The address that the file gives to an offset.
    fn address(&self, offset: u64) -> Option<u64> {
        let segment = self.segments.iter().find(|segment| segment.offset <= offset && offset - segment.offset < segment.size)?;
        segment.address.checked_add(offset - segment.offset)
    }

    /// The offset of an address.
    fn offset(&self, address: u64) -> Option<u64> {
        let segment =
            self.segments.iter().find(|segment| segment.address <= address && address - segment.address < segment.size)?;
        segment.offset.checked_add(address - segment.address)
    }

    /// All functions, by address.
    fn symbols(&mut self) -> &[Symbol] {
        let files = [Some(&self.elf), self.debug.as_ref()];
        self.symbols.get_or_insert_with(|| {
            let mut all: Vec<Symbol> = files.into_iter().flatten().flat_map(symbols).collect();
            all.sort_unstable_by(|a, b| (a.start, a.rank, a.name).cmp(&(b.start, b.rank, b.name)));
            all.dedup_by(|a, b| a.start == b.start && a.name == b.name);
            all
        })
    }

    /// The function that an address is in.
    fn symbol(&mut self, address: u64) -> Option<&Symbol> {
        // Symbols lie within others only by way of assembly; this many are looked through.
        const NESTED: usize = 32;
        let all = self.symbols();
        let end = all.partition_point(|symbol| symbol.start <= address);
        let before = &all[end.saturating_sub(NESTED)..end];
        let within = |symbol: &&Symbol| {
            let distance = address - symbol.start;
            distance < symbol.size || distance == 0
        };
        // One without a size goes on until the next begins.
        let innermost = before.iter().rev().find(within).or_else(|| before.last().filter(|last| last.size == 0))?;
        // The first of those that begin there.
        before.iter().filter(within).find(|symbol| symbol.start == innermost.start).or(Some(innermost))
    }

    /// Functions with a name, by offset.
    pub(super) fn functions(&mut self, pattern: &str) -> Result<Vec<UserFunction>, String> {
        const ENDBR64: [u8; 4] = [0xf3, 0x0f, 0x1e, 0xfa];
        let pattern = Pattern::new(pattern);
        self.symbols();
        let mut matches = Vec::new();
        for symbol in self.symbols.iter().flatten().filter(|symbol| !symbol.indirect) {
            let name = text(symbol.name);
            let Some(demangled) = pattern.any(&name) else { continue };
            let Some(file_offset) = self.offset(symbol.start) else { continue };
            if matches.len() == MAX_MATCHES {
                return Err(format!("more than {MAX_MATCHES} functions match; a narrower pattern is needed"));
            }
            let start = usize::try_from(file_offset).ok().and_then(|start| self.data.get(start..));
            matches.push(UserFunction {
                name: cut(name.into_owned()),
                demangled,
                file_offset,
                size: symbol.size,
                starts_with_endbr64: start.is_some_and(|code| code.starts_with(&ENDBR64)),
            });
        }
        matches.sort_by(|a, b| (a.file_offset, &a.name).cmp(&(b.file_offset, &b.name)));
        Ok(matches)
    }

    /// Where a symbol is, as seen from a byte of the file.
    pub(super) fn place(&self, name: &str, from: u64) -> Result<Option<UserSymbol>, String> {
        let from = self.address(from).ok_or("the byte is in no part of it that is loaded")?;
        if glob::is_pattern(name) {
            return Ok(None);
        }
        let pattern = Pattern::new(name);
        let files = [Some(&self.elf), self.debug.as_ref()];
        let all = files.into_iter().flatten().flat_map(|elf| elf.symbols().chain(elf.dynamic_symbols()));
        let named = all.filter(|symbol| {
            // What is undefined here is in another file, and what is absolute is no place at all.
            !matches!(symbol.section(), SymbolSection::Undefined | SymbolSection::Absolute | SymbolSection::Common)
                && !matches!(symbol.kind(), SymbolKind::File | SymbolKind::Section)
                && symbol.name_bytes().is_ok_and(|name| pattern.any(&text(name)).is_some())
        });
        // As the linker: one that other files see, before those that some of its sources have for themselves.
        let mut named: Vec<_> =
            named.map(|symbol| (u8::from(symbol.is_weak()) + 2 * u8::from(symbol.is_local()), symbol)).collect();
        named.sort_by_key(|(rank, symbol)| (*rank, symbol.address()));
        let Some((best, symbol)) = named.first() else { return Ok(None) };
        if named.iter().any(|(rank, other)| rank == best && other.address() != symbol.address()) {
            return Err(format!("it has several symbols `{}`", cut(name.to_owned())));
        }
        if symbol.kind() == SymbolKind::Tls {
            return Err(format!("`{}` is a variable of each thread, which has no one address", cut(name.to_owned())));
        }
        if is_indirect(&symbol.flags()) {
            return Err(format!("`{}` is chosen when the program starts (IFUNC), and has no one address", cut(name.to_owned())));
        }
        let size = if symbol.kind() == SymbolKind::Data { symbol.size() } else { 0 };
        Ok(Some(UserSymbol { distance: symbol.address().wrapping_sub(from).cast_signed(), size }))
    }

    /// USDT probes with a name, by offset.
    pub(super) fn usdt(&self, provider: &str, name: &str) -> Result<Vec<UsdtSite>, String> {
        let (provider, name) = (Pattern::new(provider), Pattern::new(name));
        let notes = section(&self.elf, ".note.stapsdt").unwrap_or_default();
        if notes.is_empty() {
            return Ok(Vec::new());
        }
        if self.elf.endianness() != Endianness::Little {
            return Err("its USDT notes have another byte order".into());
        }
        let base = self.elf.section_by_name(".stapsdt.base").map(|section| section.address());
        let mut sites = Vec::new();
        for note in (Notes { rest: notes, word: if self.elf.is_64() { 8 } else { 4 } }) {
            if !provider.plain(&text(note.provider)) || !name.plain(&text(note.name)) {
                continue;
            }
            // Where prelink moved the file after it was linked, the notes were left behind.
            let moved = base.map_or(0, |base| base.wrapping_sub(note.base));
            let Some(file_offset) = self.offset(note.location.wrapping_add(moved)) else { continue };
            let semaphore_offset = match note.semaphore {
                0 => None,
                // A probe that waits for a semaphore which can't be found would never fire.
                semaphore => match self.offset(semaphore.wrapping_add(moved)) {
                    None => continue,
                    offset => offset,
                },
            };
            if sites.len() == MAX_MATCHES {
                return Err(format!("more than {MAX_MATCHES} USDT probes match; a narrower pattern is needed"));
            }
            let owned = |bytes| cut(text(bytes).into_owned());
            sites.push(UsdtSite {
                provider: owned(note.provider),
                name: owned(note.name),
                file_offset,
                semaphore_offset,
                arguments: owned(note.arguments),
            });
        }
        sites.sort_by_key(|site| site.file_offset);
        Ok(sites)
    }
}

/// Maps a whole file, for as long as the process lives.
fn map(fd: impl AsFd) -> Result<&'static [u8], String> {
    let size = rustix::fs::fstat(&fd).map_err(|error| error.to_string())?.st_size;
    let size = usize::try_from(size).ok().filter(|&size| size > 0).ok_or("it is empty")?;
    // SAFETY: a new mapping at an address that the kernel chooses.
    let start = unsafe { rustix::mm::mmap(std::ptr::null_mut(), size, ProtFlags::READ, MapFlags::PRIVATE, fd, 0) };
    let start = start.map_err(|error| format!("it can't be mapped: {error}"))?;
    // SAFETY: the mapping is `size` bytes long and is never undone. The file may change while it is read, as a debugger's may: what
    // is parsed is believed at no time, each read is checked against the mapping's bounds, and a file that shrinks ends this process
    // (SIGBUS), which the host is prepared for.
    Ok(unsafe { std::slice::from_raw_parts(start.cast::<u8>(), size) })
}

fn parse(data: &'static [u8]) -> Result<object::File<'static>, String> {
    if !data.starts_with(b"\x7fELF") {
        return Err("it is no ELF file".into());
    }
    object::File::parse(data).map_err(|error| format!("it is a damaged ELF file: {error}"))
}

fn has_debug(elf: &object::File<'static>) -> bool {
    // A section of a stripped file may have a name and no contents.
    elf.section_by_name(".debug_info").is_some_and(|section| section.compressed_data().is_ok_and(|data| !data.data.is_empty()))
}

/// A section's contents, no longer compressed.
fn section(elf: &object::File<'static>, name: &str) -> Option<&'static [u8]> {
    let section = elf.section_by_name(name)?.compressed_data().ok()?;
    match section.format {
        CompressionFormat::None => Some(section.data),
        CompressionFormat::Zlib if section.uncompressed_size <= MAX_SECTION => {
            let limit = usize::try_from(section.uncompressed_size).ok()?;
            // Lives as long as the mappings do.
            miniz_oxide::inflate::decompress_to_vec_zlib_with_limit(section.data, limit).ok().map(|data| &*data.leak())
        }
        _ => None,
    }
}

/// The functions in the symbol tables of a file.
fn symbols<'a>(elf: &'a object::File<'static>) -> impl Iterator<Item = Symbol> + 'a {
    elf.symbols().chain(elf.dynamic_symbols()).filter_map(|symbol| {
        let name = symbol.name_bytes().ok()?;
        if symbol.kind() != SymbolKind::Text || !symbol.is_definition() || name.is_empty() {
            return None;
        }
        let indirect = is_indirect(&symbol.flags());
        let underscores = name.iter().take_while(|&&c| c == b'_').count();
        let rank = u8::from(symbol.is_weak()) + 2 * u8::from(symbol.is_local()) + 4 * underscores.min(8) as u8;
        Some(Symbol { start: symbol.address(), size: symbol.size(), name, rank, indirect })
    })
}

fn is_indirect<S, D>(flags: &SymbolFlags<S, D>) -> bool {
    matches!(flags, SymbolFlags::Elf { st_info, .. } if st_info & 0xf == IFUNC)
}

/// A note of type 3 of "stapsdt", <https://sourceware.org/systemtap/wiki/UserSpaceProbeImplementation>.
struct Note {
    location: u64,
    base: u64,
    semaphore: u64,
    provider: &'static [u8],
    name: &'static [u8],
    arguments: &'static [u8],
}

/// The notes in a section. Ends at the first that is cut short.
struct Notes {
    rest: &'static [u8],
    /// Bytes of an address.
    word: usize,
}

impl Notes {
    fn take(&mut self, count: usize) -> Option<&'static [u8]> {
        let (taken, rest) = self.rest.split_at_checked(count)?;
        // Padded to four bytes, but perhaps not at the end.
        self.rest = rest.get(count.next_multiple_of(4) - count..).unwrap_or_default();
        Some(taken)
    }

    fn parse(mut description: &'static [u8], word: usize) -> Option<Note> {
        let mut address = || {
            let (bytes, rest) = description.split_at_checked(word)?;
            description = rest;
            Some(bytes.iter().rev().fold(0, |value, &byte| value << 8 | u64::from(byte)))
        };
        let (location, base, semaphore) = (address()?, address()?, address()?);
        let mut texts = description.split(|&byte| byte == 0);
        Some(Note { location, base, semaphore, provider: texts.next()?, name: texts.next()?, arguments: texts.next()? })
    }
}

impl Iterator for Notes {
    type Item = Note;

    fn next(&mut self) -> Option<Note> {
        const HEADER: usize = 12;
        loop {
            let header = self.take(HEADER)?;
            let word = |at: usize| Some(u32::from_le_bytes(*header.get(at..)?.first_chunk()?));
            let (name, description, kind) = (word(0)?, word(4)?, word(8)?);
            let name = self.take(usize::try_from(name).ok()?)?;
            let description = self.take(usize::try_from(description).ok()?)?;
            if (name, kind) == (b"stapsdt\0", 3)
                && let Some(note) = Notes::parse(description, self.word)
            {
                return Some(note);
            }
        }
    }
}
