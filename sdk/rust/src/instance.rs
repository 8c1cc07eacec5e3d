//! A plugin between its calls: what [`plugin!`](crate::plugin) keeps of it, and what happens around each call.

use std::{cell::RefCell, rc::Rc};

use crate::{
    Batch, Closing, Opening, Plugin, Program, Result, Schema, Tables, TimerNumber,
    bindings::{Program as Declared, Table as DeclaredTable},
    config, output, program,
    row::Link,
};

/// The one plugin of a component.
pub struct Instance<P> {
    state: RefCell<Option<State<P>>>,
}

struct State<P> {
    plugin: P,
    links: Vec<Rc<Link>>,
    tables: Tables,
}

impl<P: Plugin> Instance<P> {
    /// Not yet configured.
    #[allow(clippy::new_without_default)]
    pub const fn new() -> Instance<P> {
        Instance { state: RefCell::new(None) }
    }

    /// `configure` of the contract.
    pub fn configure(&self, config: &str) -> Result<Declared, String> {
        let mut program = Program::default();
        let plugin = P::configure(config::parse(config)?, &mut program)?;
        let (declared, links, tables) = program.into_parts();
        *self.state.borrow_mut() = Some(State { plugin, links, tables });
        Ok(declared)
    }

    /// `prepare` of the contract.
    pub fn prepare(&self, schema: &Schema) -> Result<Vec<DeclaredTable>, String> {
        self.call("prepare", |state| {
            program::bind(&state.links, schema)?;
            state.plugin.prepare(schema, &mut state.tables)?;
            Ok(state.tables.take_declared())
        })
    }

    /// `start` of the contract.
    pub fn start(&self, opening: &Opening) -> Result<(), String> {
        self.run("start", |plugin| plugin.start(opening))
    }

    /// `handle` of the contract.
    pub fn handle(&self, batch: &Batch) -> Result<(), String> {
        self.run("handle", |plugin| plugin.handle(batch))
    }

    /// `tick` of the contract.
    pub fn tick(&self, timer: u32) -> Result<(), String> {
        self.run("tick", |plugin| plugin.tick(TimerNumber(timer)))
    }

    /// `finish` of the contract.
    pub fn finish(&self, closing: &Closing) -> Result<(), String> {
        self.run("finish", |plugin| plugin.finish(closing))
    }

    /// `hand-over` of the contract.
    pub fn hand_over(&self) -> Option<Vec<u8>> {
        let mut handed_over = None;
        let outcome = self.run("hand-over", |plugin| {
            handed_over = plugin.hand_over();
            Ok(())
        });
        if let Err(error) = outcome {
            output::error(error);
        }
        handed_over
    }

    /// A call after which the rows that it pushed go to the host, also when it fails: they were true.
    fn run(&self, moment: &str, call: impl FnOnce(&mut P) -> Result<()>) -> Result<(), String> {
        self.call(moment, |state| call(&mut state.plugin).and(state.tables.flush()))
    }

    fn call<R>(&self, moment: &str, call: impl FnOnce(&mut State<P>) -> Result<R>) -> Result<R, String> {
        match self.state.borrow_mut().as_mut() {
            Some(state) => Ok(call(state)?),
            None => Err(format!("the host called `{moment}` before `configure` succeeded")),
        }
    }
}
