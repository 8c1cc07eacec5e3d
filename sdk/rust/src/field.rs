//! The types that a field of a [`Row`](crate::Row) may have, and how each reads its column.
//!
//! A column is looked at as a whole once per batch: its kind, its length, and whether every value fits the field. After that
//! reading a row is an index into a slice.

use crate::{Column, Error, Kind, Result, Stack, Values};

/// A column of a batch or of a map's elements, with all that a field may want to know of it.
#[derive(Clone, Copy)]
pub struct ColumnOf<'b> {
    /// Of what it is a column, as errors name it: "stream `opens`".
    pub of: &'b str,
    /// The column's name.
    pub name: &'b str,
    /// Its values.
    pub column: &'b Column,
    /// The texts of the batch.
    pub strings: &'b [String],
    /// How many rows there are.
    pub rows: usize,
}

impl<'b> ColumnOf<'b> {
    /// An error about this column.
    pub fn error(&self, what: impl std::fmt::Display) -> Error {
        Error::new(format!("{}, column `{}`: {what}", self.of, self.name))
    }

    /// The values, if they are as many as there are rows.
    fn all<T>(&self, values: &'b [T]) -> Result<&'b [T]> {
        if values.len() == self.rows {
            Ok(values)
        } else {
            Err(self.error(format_args!("{} values for {} rows", values.len(), self.rows)))
        }
    }

    fn wrong_kind<T>(&self, expected: Kind) -> Result<T> {
        let found = self.column.values.kind();
        Err(self.error(format_args!("declared as {}, and the batch has {}", expected.name(), found.name())))
    }
}

impl Values {
    /// Their kind.
    pub fn kind(&self) -> Kind {
        match self {
            Values::U64(_) => Kind::U64,
            Values::S64(_) => Kind::S64,
            Values::Text(_) => Kind::Text,
            Values::Bytes(_) => Kind::Bytes,
            Values::Stack(_) => Kind::Stack,
        }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        match self {
            Values::U64(values) | Values::Stack(values) => values.len(),
            Values::S64(values) => values.len(),
            Values::Text(index) => index.len(),
            Values::Bytes(bytes) => bytes.ends.len(),
        }
    }

    /// There are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Kind {
    /// Its name in the contract.
    pub fn name(self) -> &'static str {
        match self {
            Kind::U64 => "u64",
            Kind::S64 => "s64",
            Kind::Text => "text",
            Kind::Bytes => "bytes",
            Kind::Stack => "stack",
        }
    }
}

/// A type that a field of a row may have.
///
/// | field | column |
/// |---|---|
/// | `u8` to `u64`, `bool` | `u64`; a value that does not fit is an error, no `bool` but 0 is `false` |
/// | `i8` to `i64` | `s64`; a value that does not fit is an error |
/// | `&str` | `text` |
/// | `&[u8]` | `bytes` |
/// | [`Stack`] | `stack` |
/// | `Option<F>` | as `F`; `None` where the memory could not be read. Without `Option` such a value is 0 or empty |
/// | [`Cut<F>`] | as `F`, and whether it is longer than the probe kept |
pub trait Field<'b>: Sized {
    /// The kind of column that it reads.
    const KIND: Kind;
    /// The column, looked through and ready to be read.
    type Column;

    /// Looks the column through.
    ///
    /// # Errors
    /// Values that do not fit, or a batch that is not what its schema says.
    fn column(source: ColumnOf<'b>) -> Result<Self::Column>;

    /// The value in a row. `row` is below the number of rows.
    fn read(column: &Self::Column, row: usize) -> Self;
}

macro_rules! number {
    ($($field:ty: $kind:ident $wide:ty),*) => {$(
        impl<'b> Field<'b> for $field {
            const KIND: Kind = Kind::$kind;
            type Column = &'b [$wide];

            fn column(source: ColumnOf<'b>) -> Result<&'b [$wide]> {
                let Values::$kind(values) = &source.column.values else { return source.wrong_kind(Kind::$kind) };
                let values = source.all(values)?;
                // No early exit: one pass without branches is quicker than one that may stop.
                if values.iter().fold(true, |fit, value| fit & (<$wide>::from(*value as $field) == *value)) {
                    return Ok(values);
                }
                let misfit = values.iter().find(|value| <$field>::try_from(**value).is_err()).copied().unwrap_or_default();
                Err(source.error(format_args!("{misfit} does not fit the row's {}; make the field wider", stringify!($field))))
            }

            #[inline]
            fn read(column: &&'b [$wide], row: usize) -> $field {
                column.get(row).copied().unwrap_or_default() as $field
            }
        }
    )*};
}

number!(u8: U64 u64, u16: U64 u64, u32: U64 u64, i8: S64 i64, i16: S64 i64, i32: S64 i64);

macro_rules! whole {
    ($($field:ty: $kind:ident),*) => {$(
        impl<'b> Field<'b> for $field {
            const KIND: Kind = Kind::$kind;
            type Column = &'b [$field];

            fn column(source: ColumnOf<'b>) -> Result<&'b [$field]> {
                let Values::$kind(values) = &source.column.values else { return source.wrong_kind(Kind::$kind) };
                source.all(values)
            }

            #[inline]
            fn read(column: &&'b [$field], row: usize) -> $field {
                column.get(row).copied().unwrap_or_default()
            }
        }
    )*};
}

whole!(u64: U64, i64: S64);

impl<'b> Field<'b> for bool {
    const KIND: Kind = Kind::U64;
    type Column = &'b [u64];

    fn column(source: ColumnOf<'b>) -> Result<&'b [u64]> {
        u64::column(source)
    }

    #[inline]
    fn read(column: &&'b [u64], row: usize) -> bool {
        u64::read(column, row) != 0
    }
}

/// A text column: for each row a position among the batch's texts.
pub struct Texts<'b> {
    index: &'b [u32],
    strings: &'b [String],
}

impl<'b> Field<'b> for &'b str {
    const KIND: Kind = Kind::Text;
    type Column = Texts<'b>;

    fn column(source: ColumnOf<'b>) -> Result<Texts<'b>> {
        let Values::Text(index) = &source.column.values else { return source.wrong_kind(Kind::Text) };
        let (index, strings) = (source.all(index)?, source.strings);
        match index.iter().max() {
            Some(last) if *last as usize >= strings.len() => {
                Err(source.error(format_args!("text number {last}, and the batch has {} texts", strings.len())))
            }
            _ => Ok(Texts { index, strings }),
        }
    }

    #[inline]
    fn read(column: &Texts<'b>, row: usize) -> &'b str {
        let text = column.index.get(row).and_then(|index| column.strings.get(*index as usize));
        text.map_or("", String::as_str)
    }
}

/// A column of bytes: where each row's end in one run of bytes.
pub struct Bytes<'b> {
    ends: &'b [u32],
    data: &'b [u8],
}

impl<'b> Field<'b> for &'b [u8] {
    const KIND: Kind = Kind::Bytes;
    type Column = Bytes<'b>;

    fn column(source: ColumnOf<'b>) -> Result<Bytes<'b>> {
        let Values::Bytes(bytes) = &source.column.values else { return source.wrong_kind(Kind::Bytes) };
        let (ends, data) = (source.all(&bytes.ends)?, bytes.data.as_slice());
        if ends.is_sorted() && ends.last().is_none_or(|end| *end as usize <= data.len()) {
            Ok(Bytes { ends, data })
        } else {
            Err(source.error(format_args!("rows that end outside of its {} bytes", data.len())))
        }
    }

    #[inline]
    fn read(column: &Bytes<'b>, row: usize) -> &'b [u8] {
        let end_of = |row: usize| column.ends.get(row).map_or(0, |end| *end as usize);
        let begin = row.checked_sub(1).map_or(0, end_of);
        column.data.get(begin..end_of(row)).unwrap_or_default()
    }
}

impl<'b> Field<'b> for Stack {
    const KIND: Kind = Kind::Stack;
    type Column = &'b [u64];

    fn column(source: ColumnOf<'b>) -> Result<&'b [u64]> {
        let Values::Stack(values) = &source.column.values else { return source.wrong_kind(Kind::Stack) };
        source.all(values)
    }

    #[inline]
    fn read(column: &&'b [u64], row: usize) -> Stack {
        Stack(column.get(row).copied().unwrap_or_default())
    }
}

/// Whether a bitmap has a row's bit. The empty bitmap has none.
#[inline]
fn has(bitmap: &[u8], row: usize) -> bool {
    bitmap.get(row >> 3).is_some_and(|byte| byte >> (row & 7) & 1 == 1)
}

/// A column with its bitmap of absent or of cut rows.
pub struct Marked<'b, C> {
    column: C,
    bitmap: &'b [u8],
}

impl<'b, F: Field<'b>> Field<'b> for Option<F> {
    const KIND: Kind = F::KIND;
    type Column = Marked<'b, F::Column>;

    fn column(source: ColumnOf<'b>) -> Result<Self::Column> {
        Ok(Marked { column: F::column(source)?, bitmap: &source.column.absent })
    }

    #[inline]
    fn read(column: &Self::Column, row: usize) -> Option<F> {
        if has(column.bitmap, row) { None } else { Some(F::read(&column.column, row)) }
    }
}

/// A value, and whether it was longer than the probe kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cut<T> {
    /// What was kept.
    pub value: T,
    /// There was more.
    pub cut: bool,
}

impl<'b, F: Field<'b>> Field<'b> for Cut<F> {
    const KIND: Kind = F::KIND;
    type Column = Marked<'b, F::Column>;

    fn column(source: ColumnOf<'b>) -> Result<Self::Column> {
        Ok(Marked { column: F::column(source)?, bitmap: &source.column.cut })
    }

    #[inline]
    fn read(column: &Self::Column, row: usize) -> Cut<F> {
        Cut { value: F::read(&column.column, row), cut: has(column.bitmap, row) }
    }
}
