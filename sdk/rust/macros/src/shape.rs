//! What both macros read of a struct: its fields, their attributes, its lifetime.

use syn::{Attribute, Data, DeriveInput, Error, Fields, GenericParam, Ident, Lifetime, LitStr, Result, Type, ext::IdentExt};

/// A struct that can be a row.
pub(crate) struct Shape<'i> {
    pub(crate) name: &'i Ident,
    /// Its only generic parameter, if it has one.
    pub(crate) lifetime: Option<&'i Lifetime>,
    pub(crate) fields: Vec<Field<'i>>,
}

/// A named field.
pub(crate) struct Field<'i> {
    pub(crate) name: &'i Ident,
    pub(crate) ty: &'i Type,
    /// `#[time]`
    pub(crate) time: bool,
    /// `#[column("name")]`, or else the field's own name.
    pub(crate) column: String,
    /// `#[unit(name)]`, as the variant of `portcullis_sdk::Unit`.
    pub(crate) unit: &'static str,
}

/// The units by the names that authors write.
const UNITS: [(&str, &str); 3] = [("nanoseconds", "Nanoseconds"), ("bytes", "Bytes"), ("address", "Address")];

impl<'i> Shape<'i> {
    pub(crate) fn of(input: &'i DeriveInput) -> Result<Shape<'i>> {
        let lifetime = match input.generics.params.iter().collect::<Vec<_>>().as_slice() {
            [] => None,
            [GenericParam::Lifetime(only)] if input.generics.where_clause.is_none() && only.bounds.is_empty() => {
                Some(&only.lifetime)
            }
            _ => return Err(Error::new_spanned(&input.generics, "a row has at most one parameter, a lifetime")),
        };
        let Data::Struct(data) = &input.data else {
            return Err(Error::new_spanned(&input.ident, "a row is a struct"));
        };
        let Fields::Named(named) = &data.fields else {
            return Err(Error::new_spanned(&input.ident, "a row is a struct with named fields, one for each column"));
        };
        let fields = named.named.iter().map(Field::of).collect::<Result<Vec<_>>>()?;
        if let Some(second) = fields.iter().filter(|field| field.time).nth(1) {
            return Err(Error::new_spanned(second.name, "a row has only one `#[time]`"));
        }
        for (position, field) in fields.iter().enumerate() {
            let before = fields.iter().take(position).find(|before| !before.time && before.column == field.column);
            if !field.time && before.is_some() {
                return Err(Error::new_spanned(field.name, format!("a second field for the column `{}`", field.column)));
            }
        }
        Ok(Shape { name: &input.ident, lifetime, fields })
    }

    /// The field with `#[time]`.
    pub(crate) fn time(&self) -> Option<&Field<'i>> {
        self.fields.iter().find(|field| field.time)
    }

    /// The fields that are columns.
    pub(crate) fn columns(&self) -> impl Iterator<Item = &Field<'i>> {
        self.fields.iter().filter(|field| !field.time)
    }
}

impl<'i> Field<'i> {
    fn of(field: &'i syn::Field) -> Result<Field<'i>> {
        let Some(name) = &field.ident else { return Err(Error::new_spanned(field, "a field has a name")) };
        let mut found = Field { name, ty: &field.ty, time: false, column: name.unraw().to_string(), unit: "None" };
        for attribute in &field.attrs {
            if attribute.path().is_ident("time") {
                attribute.meta.require_path_only()?;
                found.time = true;
            } else if attribute.path().is_ident("column") {
                found.column = attribute.parse_args::<LitStr>()?.value();
            } else if attribute.path().is_ident("unit") {
                found.unit = unit(attribute)?;
            }
        }
        Ok(found)
    }
}

fn unit(attribute: &Attribute) -> Result<&'static str> {
    let name: Ident = attribute.parse_args()?;
    let unit = UNITS.iter().find(|(known, _)| name == known);
    unit.map(|(_, variant)| *variant).ok_or_else(|| Error::new_spanned(&name, "a unit is `nanoseconds`, `bytes` or `address`"))
}
