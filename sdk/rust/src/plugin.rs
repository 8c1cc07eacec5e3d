//! The trait that a plugin implements, and the macro that makes it the component's one plugin.

use serde::de::DeserializeOwned;

use crate::{Batch, Closing, Opening, Program, Result, Schema, Tables};

/// A tracing plugin.
///
/// The calls come in the order in which they stand here, one at a time. An error, like a panic, ends this plugin alone: its
/// probes close and leave, its neighbours go on, and the report names it with the error's text.
pub trait Plugin: Sized + 'static {
    /// The plugin's `config` table in the bundle. Derive `serde::Deserialize` with `#[serde(deny_unknown_fields)]`, so that a
    /// misspelt key is an error and not a surprise; [`NoConfig`](crate::NoConfig) if there is nothing to configure.
    type Config: DeserializeOwned;

    /// Says what to trace, by registering probes, streams, tables and timers with `program`.
    ///
    /// Also called by `portcullis check` and `inspect`: the outcome must depend on `config` alone.
    fn configure(config: Self::Config, program: &mut Program) -> Result<Self>;

    /// Every probe is compiled, and the gate is still closed. The streams registered in `configure` have been found to be what
    /// their rows expect. Only a plugin whose tables follow from the schema has something to do here.
    fn prepare(&mut self, schema: &Schema, tables: &mut Tables) -> Result<()> {
        let _ = (schema, tables);
        Ok(())
    }

    /// The gate is open.
    fn start(&mut self, opening: &Opening) -> Result<()> {
        let _ = opening;
        Ok(())
    }

    /// Events, in batches as large as the load makes them.
    fn handle(&mut self, batch: &Batch) -> Result<()>;

    /// A timer is due: number `timer`, as [`Program::timer`] returned it. Ticks that pile up become one.
    fn tick(&mut self, timer: crate::TimerNumber) -> Result<()> {
        let _ = timer;
        Ok(())
    }

    /// The gate is closed and every event has been handled. What is pushed or printed here is still shown.
    fn finish(&mut self, closing: &Closing) -> Result<()> {
        let _ = closing;
        Ok(())
    }

    /// State for the instance of a newer version that takes over, which finds it in [`Opening::handed_over`]. Called in place
    /// of `finish`.
    fn hand_over(&mut self) -> Option<Vec<u8>> {
        None
    }
}

/// Makes a type that implements [`Plugin`] the plugin of this component. Once per crate, at its top level.
#[macro_export]
macro_rules! plugin {
    ($plugin:ty) => {
        const _: () = {
            use ::std::{option::Option, result::Result, string::String, vec::Vec};
            use $crate::bindings::{Batch, Closing, Guest, Opening, Program, Schema, Table};

            struct Component;

            ::std::thread_local! {
                static INSTANCE: $crate::Instance<$plugin> = const { $crate::Instance::new() };
            }

            impl Guest for Component {
                fn configure(config: String) -> Result<Program, String> {
                    INSTANCE.with(|instance| instance.configure(&config))
                }

                fn prepare(schema: Schema) -> Result<Vec<Table>, String> {
                    INSTANCE.with(|instance| instance.prepare(&schema))
                }

                fn start(opening: Opening) -> Result<(), String> {
                    INSTANCE.with(|instance| instance.start(&opening))
                }

                fn handle(batch: Batch) -> Result<(), String> {
                    INSTANCE.with(|instance| instance.handle(&batch))
                }

                fn tick(timer: u32) -> Result<(), String> {
                    INSTANCE.with(|instance| instance.tick(timer))
                }

                fn finish(closing: Closing) -> Result<(), String> {
                    INSTANCE.with(|instance| instance.finish(&closing))
                }

                fn hand_over() -> Option<Vec<u8>> {
                    INSTANCE.with(|instance| instance.hand_over())
                }
            }

    $crate::bindings::export_component!(Component with_types_in $crate::bindings);
        };
    };
}
