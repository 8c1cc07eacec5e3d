//! What a plugin registers in `configure`: probes, timers, the streams and maps it reads, the tables it fills.

use std::{rc::Rc, time::Duration};

use crate::{
    Map, Probe, Result, Row, Schema, Stream, Table, TableColumn, TableRow,
    bindings::{
        Program as Declared,
        portcullis::plugin::{output::Table as DeclaredTable, types::Timer},
    },
    row::{Link, What},
    table::Flush,
};

/// The plugin's program, as [`Plugin::configure`](crate::Plugin::configure) puts it together.
#[derive(Default)]
pub struct Program {
    probes: Vec<Probe>,
    timers: Vec<Timer>,
    pub(crate) links: Vec<Rc<Link>>,
    pub(crate) tables: Tables,
}

impl Program {
    /// Adds a probe. Its name must be unique within the plugin.
    pub fn probe(&mut self, probe: Probe) -> &mut Program {
        self.probes.push(probe);
        self
    }

    /// Asks for [`Plugin::tick`](crate::Plugin::tick) every `period` from the opening of the gate. At least 1 ms; periods past
    /// 584 years count as that.
    pub fn timer(&mut self, period: Duration) -> TimerNumber {
        let number = number(self.timers.len());
        self.timers.push(Timer { period: u64::try_from(period.as_nanos()).unwrap_or(u64::MAX) });
        TimerNumber(number)
    }

    /// Reads the stream `name`, the one that some probe's body has in `emit name { ... }`, as rows of type `R`. Before the gate
    /// opens, every field of `R` is looked up among the stream's columns; other columns may be there.
    pub fn stream<R: Row>(&mut self, name: impl Into<String>) -> Stream<R> {
        Stream::new(self.link::<R>(What::Stream, name.into()))
    }

    /// Reads the map `name`, the one that some probe's body has as `@name`, as elements of type `R`: each field is the part of the
    /// key, or the column of the value, that has its name. They are looked up as those of a stream are.
    ///
    /// A part of a key has the last name in what the probe wrote there, `comm` for `@m[comm]` and `filename` for
    /// `@m[str(args.filename)]`, or `key0`, `key1` where there is none or another column is called so. What columns the values have
    /// follows from what they are: `value` where they are assigned, `count` of `count()`, and so on; see
    /// [`Content`](crate::Content).
    pub fn map<R: Row>(&mut self, name: impl Into<String>) -> Map<R> {
        Map::new(self.link::<R>(What::Map, name.into()))
    }

    fn link<R: Row>(&mut self, what: What, name: String) -> Rc<Link> {
        let link = Rc::new(Link::new::<R>(what, name));
        self.links.push(Rc::clone(&link));
        link
    }

    /// Declares the table `name` with a column for each field of `T`. `[A-Za-z_][A-Za-z0-9_.-]*`, at most 64 characters.
    pub fn table<T: TableRow + 'static>(&mut self, name: impl Into<String>) -> Table<T> {
        self.tables.add(name)
    }

    /// What the host gets to see of it, and what remains.
    pub(crate) fn into_parts(self) -> (Declared, Vec<Rc<Link>>, Tables) {
        (Declared { probes: self.probes, timers: self.timers }, self.links, self.tables)
    }
}

/// Looks up every stream and map that the plugin reads.
pub(crate) fn bind(links: &[Rc<Link>], schema: &Schema) -> Result<()> {
    links.iter().try_for_each(|link| link.bind(schema))
}

impl Probe {
    /// A probe without attach points and with an empty body. `name` stands in errors and in the report:
    /// `[A-Za-z_][A-Za-z0-9_-]*`, unique within the plugin.
    pub fn new(name: impl Into<String>) -> Probe {
        Probe { name: name.into(), attach: Vec::new(), when: None, body: String::new(), optional: false }
    }

    /// Adds an attach point, with wildcards if wanted: `span:syscall:open*`.
    #[must_use]
    pub fn attach(mut self, point: impl Into<String>) -> Probe {
        self.attach.push(point.into());
        self
    }

    /// The condition: a hit for which it is false is counted as filtered and goes no further.
    #[must_use]
    pub fn when(mut self, expression: impl Into<String>) -> Probe {
        self.when = Some(expression.into());
        self
    }

    /// What happens at a hit, as statements of the probe language.
    #[must_use]
    pub fn body(mut self, statements: impl Into<String>) -> Probe {
        self.body = statements.into();
        self
    }

    /// The probe may be missing on a kernel that has no such attach point; the report names it then. Any other probe that
    /// can't be attached refuses the whole run.
    #[must_use]
    pub fn optional(mut self) -> Probe {
        self.optional = true;
        self
    }
}

/// A timer of the program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimerNumber(pub(crate) u32);

/// A table among those that the plugin declared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TableNumber(pub(crate) u32);

/// The tables that a plugin declares.
#[derive(Default)]
pub struct Tables {
    declared: Vec<DeclaredTable>,
    typed: Vec<Rc<dyn Flush>>,
}

impl Tables {
    /// Declares the table `name` with a column for each field of `T`, as [`Program::table`] does.
    pub fn add<T: TableRow + 'static>(&mut self, name: impl Into<String>) -> Table<T> {
        let table = Table::new(self.declare(name, T::columns()));
        self.typed.push(table.flusher());
        table
    }

    /// Declares a table whose columns are known only now. It is filled with [`append`](crate::append).
    pub fn declare(&mut self, name: impl Into<String>, columns: Vec<TableColumn>) -> TableNumber {
        let number = number(self.declared.len());
        self.declared.push(DeclaredTable { name: name.into(), columns });
        TableNumber(number)
    }

    /// The declarations, for the host. They are needed once.
    pub(crate) fn take_declared(&mut self) -> Vec<DeclaredTable> {
        std::mem::take(&mut self.declared)
    }

    /// Hands over what was pushed into typed tables. All are tried; the first error is returned.
    pub(crate) fn flush(&self) -> Result<()> {
        self.typed.iter().map(|table| table.flush()).fold(Ok(()), Result::and)
    }
}

/// A position as the contract has it. Nobody registers 2³² things in 64 MiB of memory; the host refuses what is out of range.
fn number(position: usize) -> u32 {
    u32::try_from(position).unwrap_or(u32::MAX)
}
