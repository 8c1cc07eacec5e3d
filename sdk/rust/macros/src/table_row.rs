//! `#[derive(TableRow)]`.

use proc_macro2::TokenStream;
use quote::{format_ident, quote};
use syn::{DeriveInput, Error, Index, Result, Type};

use crate::shape::Shape;

/// The host gives every row these, so no column may have their names (wit/output.wit).
const RESERVED: [&str; 3] = ["plugin", "table", "time"];

pub(crate) fn derive(input: &DeriveInput) -> Result<TokenStream> {
    let shape = Shape::of(input)?;
    let Some(time) = shape.time() else {
        return Err(Error::new_spanned(shape.name, "one field must be the row's time: `#[time] time: u64`"));
    };
    if let Some(field) = shape.columns().find(|field| RESERVED.contains(&field.column.as_str())) {
        let text = format!("the host has a column `{}` of its own; rename it with `#[column(\"...\")]`", field.column);
        return Err(Error::new_spanned(field.name, text));
    }

    let time = time.name;
    let (generics, _, _) = input.generics.split_for_impl();
    let (name, arguments) = (shape.name, shape.lifetime.map(|lifetime| quote!(<#lifetime>)));
    let columns = shape.columns().map(|field| {
        let (column, ty, unit) = (&field.column, field.ty, format_ident!("{}", field.unit));
        quote! {
            ::portcullis_sdk::TableColumn {
                name: ::std::string::String::from(#column),
                kind: <#ty as ::portcullis_sdk::Cell>::KIND,
                unit: ::portcullis_sdk::Unit::#unit,
            }
        }
    });
    let types: Vec<&Type> = shape.columns().map(|field| field.ty).collect();
    let empty = types.iter().map(|_| quote!(::std::default::Default::default()));
    let names = shape.columns().map(|field| field.name);
    let positions: Vec<Index> = (0..types.len()).map(Index::from).collect();

    Ok(quote! {
        #[automatically_derived]
        impl #generics ::portcullis_sdk::TableRow for #name #arguments {
            type Columns = (#(<#types as ::portcullis_sdk::Cell>::Buffer,)*);

            fn columns() -> ::std::vec::Vec<::portcullis_sdk::TableColumn> {
                ::std::vec![#(#columns),*]
            }

            fn empty() -> Self::Columns {
                (#(#empty,)*)
            }

            fn time(&self) -> u64 {
                self.#time
            }

            #[inline]
            fn push(self, columns: &mut Self::Columns, texts: &mut ::portcullis_sdk::Texts) {
                #(<#types as ::portcullis_sdk::Cell>::push(self.#names, &mut columns.#positions, texts);)*
            }

            fn buffers(columns: &mut Self::Columns) -> ::std::vec::Vec<&mut dyn ::portcullis_sdk::CellBuffer> {
                ::std::vec![#(&mut columns.#positions as &mut dyn ::portcullis_sdk::CellBuffer),*]
            }
        }
    })
}
