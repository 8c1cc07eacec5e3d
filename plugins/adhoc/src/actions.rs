//! Streams whose rows are actions.

use portcullis_adhoc_program::{Action, Kind as Shown, Piece, What, unfit};
use portcullis_sdk::{Error, Kind, Result, SchemaStream};

use crate::maps::Maps;

/// An action, and where its fields are.
pub(crate) struct Bound {
    pub(crate) action: Action,
    /// Its values.
    pub(crate) operands: Vec<Operand>,
    /// The number of the map that it is for, if it is for one.
    pub(crate) map: usize,
}

/// Where a value is.
pub(crate) enum Operand {
    /// In this column of its rows.
    Column(usize),
    /// Nowhere: it is a text of the program.
    Fixed(String),
}

impl Bound {
    /// Checks that the action can show the fields of its rows.
    pub(crate) fn new(action: Action, stream: &SchemaStream, maps: &Maps) -> Result<Bound> {
        let column = |number: usize| stream.fields.iter().position(|field| field.name == format!("a{number}"));
        let fixed = |number: usize| action.fixed.iter().find(|(position, _)| *position == number).map(|(_, text)| text.clone());
        let operand = |number| fixed(number).map(Operand::Fixed).or_else(|| column(number).map(Operand::Column));
        let operands: Vec<Operand> = (0..).map_while(operand).collect();
        if let What::Printf { pieces } = &action.what {
            let conversions = pieces.iter().filter_map(|piece| match piece {
                Piece::Field(conversion) => Some(conversion),
                Piece::Text(_) => None,
            });
            for (number, (conversion, operand)) in conversions.zip(&operands).enumerate() {
                let kind = match operand {
                    Operand::Column(column) => stream.fields.get(*column).map_or(Shown::Number, |field| kind(field.kind)),
                    Operand::Fixed(_) => Shown::Text,
                };
                if let Some(reason) = unfit(conversion, kind) {
                    let shown: String = pieces.iter().map(spelt).collect();
                    return Err(Error::new(format!("printf({shown:?}), argument {}: {reason}", number + 1)));
                }
            }
        }
        let map = match &action.what {
            What::Print { map, .. } | What::Clear { map } | What::Zero { map } => maps
                .find(map)
                .ok_or_else(|| Error::new(format!("{}({map}): no probe writes to a map of this name", action.what.name())))?,
            _ => 0,
        };
        Ok(Bound { action, operands, map })
    }
}

/// A piece of a format, about as it was typed.
fn spelt(piece: &Piece) -> String {
    match piece {
        Piece::Text(text) => text.replace('%', "%%"),
        Piece::Field(conversion) => format!("%{}", conversion.kind),
    }
}

fn kind(kind: Kind) -> Shown {
    match kind {
        Kind::U64 | Kind::S64 => Shown::Number,
        Kind::Text => Shown::Text,
        Kind::Bytes => Shown::Bytes,
        Kind::Stack => Shown::Stack,
    }
}
