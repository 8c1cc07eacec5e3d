//! Maps that probes fill in the kernel, read as rows, and written.

use std::{marker::PhantomData, rc::Rc};

use crate::{
    BytesValues, Column, Content, Error, Kind, Result, Row, Rows, SchemaField, SchemaMap, Source, Stack, Values,
    maps::{self, Elements as RawElements},
    row::{Link, Place},
};

/// A map that the plugin reads as elements of type `R`, from [`Program::map`](crate::Program::map).
///
/// ```
/// # use portcullis_sdk::prelude::*;
/// # use portcullis_sdk::print;
/// /// What `@counts[comm] = count()` gathers.
/// #[derive(Row)]
/// struct Count<'a> {
///     comm: &'a str,
///     count: u64,
/// }
///
/// fn show(counts: &Map<Count<'static>>) -> Result<()> {
///     for Count { comm, count } in counts.take()?.rows()? {
///         print(format!("{comm}: {count}"));
///     }
///     Ok(())
/// }
/// ```
pub struct Map<R> {
    link: Rc<Link>,
    row: PhantomData<fn() -> R>,
}

impl<R: Row> Map<R> {
    pub(crate) fn new(link: Rc<Link>) -> Map<R> {
        Map { link, row: PhantomData }
    }

    /// The map's name, without the `@`.
    pub fn name(&self) -> &str {
        &self.link.name
    }

    /// All elements, sorted by key; those of one key by bucket or by time. While the gate is open programs go on writing: each
    /// element is as it was at some moment during the call.
    ///
    /// # Errors
    /// The kernel refuses, there is too much for one call, or it is not yet `start`.
    pub fn read(&self) -> Result<Elements<R>> {
        self.elements(maps::read)
    }

    /// As [`Map::read`], and what is returned is in the map no more: the next time it begins from nothing. Nothing that is counted is
    /// returned twice.
    ///
    /// # Errors
    /// As [`Map::read`].
    pub fn take(&self) -> Result<Elements<R>> {
        self.elements(maps::take)
    }

    fn elements(&self, get: fn(u32) -> Result<RawElements, String>) -> Result<Elements<R>> {
        let raw = get(self.link.place()?.number).map_err(Error::new)?;
        Ok(Elements { link: Rc::clone(&self.link), raw, row: PhantomData })
    }

    /// Removes all elements.
    ///
    /// # Errors
    /// As [`Map::read`].
    pub fn clear(&self) -> Result<()> {
        maps::clear(self.link.place()?.number).map_err(Error::new)
    }

    /// Sets elements of a map whose values are assigned; programs find them from then on. A key with several parts is a tuple, that of
    /// a map without keys `()`.
    ///
    /// ```
    /// # use portcullis_sdk::{Map, Result, Row};
    /// # #[derive(Row)] struct Watched { pid: u32, value: u64 }
    /// fn watch(watched: &Map<Watched>, pids: &[u32]) -> Result<()> {
    ///     watched.write(pids.iter().map(|pid| (*pid, 1)))
    /// }
    /// ```
    ///
    /// # Errors
    /// The map is full, holds what is aggregated, has names for keys (`ksym` and the like), or has parts of other kinds.
    pub fn write<K: Key, V: Part>(&self, elements: impl IntoIterator<Item = (K, V)>) -> Result<()> {
        let place = self.link.place()?;
        let raw = self.to_raw(place, elements)?;
        maps::write(place.number, &raw).map_err(Error::new)
    }

    /// Removes the elements with these keys. Keys that are not there are no error.
    ///
    /// # Errors
    /// As [`Map::write`], but for what the values are.
    pub fn delete<K: Key>(&self, keys: impl IntoIterator<Item = K>) -> Result<()> {
        let place = self.link.place()?;
        let mut parts = self.parts::<K>(place)?;
        let mut strings = Vec::new();
        keys.into_iter().try_for_each(|key| key.push(&mut parts, &mut strings)).map_err(|what| self.link.error(what))?;
        let (columns, strings) = (columns(parts), strings.iter().map(String::as_str).collect::<Vec<_>>());
        maps::delete(place.number, &columns.iter().collect::<Vec<_>>(), &strings).map_err(Error::new)
    }

    fn to_raw<K: Key, V: Part>(&self, place: &Place, elements: impl IntoIterator<Item = (K, V)>) -> Result<RawElements> {
        let mut keys = self.parts::<K>(place)?;
        let value = place.map.as_ref().filter(|map| map.content == Content::Value).and_then(|map| map.values.first());
        let value = value.ok_or_else(|| self.link.error("it holds what programs count; only a map of values can be written"))?;
        let mut value = PartColumn::new(value);
        let mut strings = Vec::new();
        for (key, part) in elements {
            let pushed = key.push(&mut keys, &mut strings).and_then(|()| part.push(&mut value, &mut strings));
            pushed.map_err(|what| self.link.error(what))?;
        }
        Ok(RawElements { keys: columns(keys), values: columns(vec![value]), strings })
    }

    fn parts<'p, K: Key>(&self, place: &'p Place) -> Result<Vec<PartColumn<'p>>> {
        let fields = place.map.as_ref().map_or(&[][..], |map: &SchemaMap| &map.keys);
        if fields.len() == K::PARTS {
            return Ok(fields.iter().map(PartColumn::new).collect());
        }
        Err(self.link.error(format_args!("its key has {} parts, and there is one of {}", fields.len(), K::PARTS)))
    }
}

fn columns(parts: Vec<PartColumn<'_>>) -> Vec<Column> {
    parts.into_iter().map(|part| Column { values: part.values, absent: Vec::new(), cut: Vec::new() }).collect()
}

/// Elements of a map, as they were read.
pub struct Elements<R> {
    link: Rc<Link>,
    raw: RawElements,
    row: PhantomData<fn() -> R>,
}

impl<R: Row> Elements<R> {
    /// The elements as rows.
    ///
    /// # Errors
    /// A value does not fit its field, or they are not what the schema says.
    pub fn rows(&self) -> Result<Rows<'_, R>> {
        let (link, raw) = (&*self.link, &self.raw);
        let columns = (raw.keys.as_slice(), raw.values.as_slice());
        Rows::new(Source { link, place: link.place()?, time: &[], rows: self.len(), columns, strings: &raw.strings }, None)
    }

    /// How many rows there are: one for each element, or for each of its buckets.
    pub fn len(&self) -> usize {
        self.raw.values.first().map_or(0, |column| column.values.len())
    }

    /// There is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The columns, as the contract has them.
    pub fn raw(&self) -> &RawElements {
        &self.raw
    }
}

/// What a column of parts is made of.
pub struct PartColumn<'p> {
    field: &'p SchemaField,
    values: Values,
}

impl<'p> PartColumn<'p> {
    fn new(field: &'p SchemaField) -> PartColumn<'p> {
        let values = match field.kind {
            Kind::U64 => Values::U64(Vec::new()),
            Kind::S64 => Values::S64(Vec::new()),
            Kind::Text => Values::Text(Vec::new()),
            Kind::Bytes => Values::Bytes(BytesValues { ends: Vec::new(), data: Vec::new() }),
            Kind::Stack => Values::Stack(Vec::new()),
        };
        PartColumn { field, values }
    }

    fn misfit(&self, what: &str) -> String {
        format!("column `{}` is of kind {}, and there is {what}", self.field.name, self.field.kind.name())
    }
}

/// A part of a key, or a value: `u8` to `u64`, `i8` to `i64`, `bool`, `&str`, `String`, `&[u8]`, `Vec<u8>`, [`Stack`].
pub trait Part {
    /// Adds it to its column, and its text to those of all columns. The error says what does not fit.
    #[doc(hidden)]
    fn push(&self, column: &mut PartColumn<'_>, strings: &mut Vec<String>) -> Result<(), String>;
}

macro_rules! number {
    ($($number:ty),*) => {$(
        impl Part for $number {
            fn push(&self, column: &mut PartColumn<'_>, _: &mut Vec<String>) -> Result<(), String> {
                let fits = match &mut column.values {
                    Values::U64(values) => u64::try_from(*self).map(|value| values.push(value)).is_ok(),
                    Values::S64(values) => i64::try_from(*self).map(|value| values.push(value)).is_ok(),
                    _ => false,
                };
                if fits { Ok(()) } else { Err(column.misfit(&format!("the number {self}"))) }
            }
        }
    )*};
}

number!(u8, u16, u32, u64, i8, i16, i32, i64);

impl Part for bool {
    fn push(&self, column: &mut PartColumn<'_>, strings: &mut Vec<String>) -> Result<(), String> {
        Part::push(&u8::from(*self), column, strings)
    }
}

impl Part for str {
    fn push(&self, column: &mut PartColumn<'_>, strings: &mut Vec<String>) -> Result<(), String> {
        let Values::Text(index) = &mut column.values else { return Err(column.misfit(&format!("the text {self:?}"))) };
        // Nobody has 2³² texts in 64 MiB of memory; the host refuses what is out of range.
        index.push(u32::try_from(strings.len()).unwrap_or(u32::MAX));
        strings.push(self.to_owned());
        Ok(())
    }
}

impl Part for [u8] {
    fn push(&self, column: &mut PartColumn<'_>, _: &mut Vec<String>) -> Result<(), String> {
        let Values::Bytes(BytesValues { ends, data }) = &mut column.values else { return Err(column.misfit("bytes")) };
        data.extend_from_slice(self);
        ends.push(u32::try_from(data.len()).unwrap_or(u32::MAX));
        Ok(())
    }
}

impl Part for Stack {
    fn push(&self, column: &mut PartColumn<'_>, _: &mut Vec<String>) -> Result<(), String> {
        let Values::Stack(stacks) = &mut column.values else { return Err(column.misfit("a stack")) };
        stacks.push(self.0);
        Ok(())
    }
}

macro_rules! as_what_it_holds {
    ($($holder:ty: $held:ty),*) => {$(
        impl Part for $holder {
            fn push(&self, column: &mut PartColumn<'_>, strings: &mut Vec<String>) -> Result<(), String> {
                <$held as Part>::push(self, column, strings)
            }
        }
    )*};
}

as_what_it_holds!(String: str, Vec<u8>: [u8]);

impl<P: Part + ?Sized> Part for &P {
    fn push(&self, column: &mut PartColumn<'_>, strings: &mut Vec<String>) -> Result<(), String> {
        P::push(self, column, strings)
    }
}

/// The key of an element: a [`Part`], a tuple of up to eight, or `()` for the element of a map without keys.
pub trait Key {
    /// How many parts it has.
    #[doc(hidden)]
    const PARTS: usize;

    /// Adds each part to its column.
    #[doc(hidden)]
    fn push(&self, columns: &mut [PartColumn<'_>], strings: &mut Vec<String>) -> Result<(), String>;
}

impl<P: Part> Key for P {
    const PARTS: usize = 1;

    fn push(&self, columns: &mut [PartColumn<'_>], strings: &mut Vec<String>) -> Result<(), String> {
        columns.iter_mut().try_for_each(|column| Part::push(self, column, strings))
    }
}

macro_rules! tuples {
    ($(($($part:ident: $position:tt),*)),*) => {$(
        impl<$($part: Part),*> Key for ($($part,)*) {
            const PARTS: usize = <[usize]>::len(&[$($position),*]);

            fn push(&self, columns: &mut [PartColumn<'_>], strings: &mut Vec<String>) -> Result<(), String> {
                let (_, _) = (&columns, &strings);
                $(if let Some(column) = columns.get_mut($position) {
                    Part::push(&self.$position, column, strings)?;
                })*
                Ok(())
            }
        }
    )*};
}

tuples!(
    (),
    (A: 0),
    (A: 0, B: 1),
    (A: 0, B: 1, C: 2),
    (A: 0, B: 1, C: 2, D: 3),
    (A: 0, B: 1, C: 2, D: 3, E: 4),
    (A: 0, B: 1, C: 2, D: 3, E: 4, F: 5),
    (A: 0, B: 1, C: 2, D: 3, E: 4, F: 5, G: 6),
    (A: 0, B: 1, C: 2, D: 3, E: 4, F: 5, G: 6, H: 7)
);

#[cfg(test)]
mod tests;
