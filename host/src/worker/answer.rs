//! What the host answers to a plugin that asks: its maps, and the frames of its stacks.

use super::protocol::{Request, Response};
use crate::{
    contract::{Column, Elements},
    facts::Facts,
    names::Names,
};

/// The maps of one plugin, numbered as in its schema. Numbers and shapes that come here have been checked against it.
pub trait Maps: Send {
    /// All elements.
    fn read(&mut self, map: u32, names: &mut Names) -> Result<Elements, String>;
    /// All elements, which are there no more afterwards.
    fn take(&mut self, map: u32, names: &mut Names) -> Result<Elements, String>;
    /// Sets elements.
    fn write(&mut self, map: u32, elements: &Elements, names: &Names) -> Result<(), String>;
    /// Removes elements.
    fn delete(&mut self, map: u32, keys: &[Column], strings: &[String], names: &Names) -> Result<(), String>;
    /// Removes all elements.
    fn clear(&mut self, map: u32) -> Result<(), String>;

    /// There are maps with stacks as keys.
    fn have_stacks(&self) -> bool {
        false
    }

    /// Notes the processes of some stacks that are keys, the next ones with each call.
    fn note_processes(&mut self, names: &mut Names) {
        let _ = names;
    }
}

/// What one plugin may ask for.
pub struct Answers {
    /// Its maps.
    pub maps: Box<dyn Maps>,
    /// What its numbers mean.
    pub names: Names,
    /// Facts about processes.
    pub facts: Facts,
}

impl Answers {
    /// For a plugin without maps and grants, on a host without symbols.
    pub fn none() -> Answers {
        Answers { maps: Box::new(NoMaps), names: Names::default(), facts: Facts::denied() }
    }

    pub(super) fn answer(&mut self, request: Request) -> Response {
        let Answers { maps, names, facts } = self;
        match request {
            Request::Read { map } => Response::Elements(maps.read(map, names)),
            Request::Take { map } => Response::Elements(maps.take(map, names)),
            Request::Write { map, elements } => Response::Done(maps.write(map, &elements, names)),
            Request::Delete { map, keys, strings } => Response::Done(maps.delete(map, &keys, &strings, names)),
            Request::Clear { map } => Response::Done(maps.clear(map)),
            Request::Resolve { stacks } => Response::Frames(names.resolve(&stacks)),
            Request::Lookup { pids } => Response::Processes(facts.lookup(&pids)),
        }
    }
}

impl std::fmt::Debug for Answers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Answers").field("names", &self.names).finish_non_exhaustive()
    }
}

/// The maps of a plugin that has none.
#[derive(Debug)]
pub struct NoMaps;

const NONE: &str = "there are no maps";

impl Maps for NoMaps {
    fn read(&mut self, _: u32, _: &mut Names) -> Result<Elements, String> {
        Err(NONE.into())
    }

    fn take(&mut self, _: u32, _: &mut Names) -> Result<Elements, String> {
        Err(NONE.into())
    }

    fn write(&mut self, _: u32, _: &Elements, _: &Names) -> Result<(), String> {
        Err(NONE.into())
    }

    fn delete(&mut self, _: u32, _: &[Column], _: &[String], _: &Names) -> Result<(), String> {
        Err(NONE.into())
    }

    fn clear(&mut self, _: u32) -> Result<(), String> {
        Err(NONE.into())
    }
}
