//! `#[derive(Row)]`.

use proc_macro2::TokenStream;
use quote::quote;
use syn::{DeriveInput, Lifetime, Result, Type};

use crate::shape::Shape;

pub(crate) fn derive(input: &DeriveInput) -> Result<TokenStream> {
    let shape = Shape::of(input)?;
    let (name, text) = (shape.name, shape.name.to_string());
    // The struct's own lifetime stands for the batch's in the generic associated types, so that the fields' types can be
    // repeated there as they are written.
    let batch = shape.lifetime.cloned().unwrap_or_else(|| Lifetime::new("'batch", proc_macro2::Span::call_site()));
    let (at, any) = match shape.lifetime {
        Some(_) => (quote!(#name<#batch>), quote!(#name<'_>)),
        None => (quote!(#name), quote!(#name)),
    };

    let specs = shape.columns().map(|field| {
        let (field_name, column, ty) = (field.name.to_string(), &field.column, outlive(field.ty, &batch));
        quote! {
            ::portcullis_sdk::FieldSpec {
                field: #field_name,
                column: #column,
                kind: <#ty as ::portcullis_sdk::Field<'static>>::KIND,
            }
        }
    });
    let types: Vec<&Type> = shape.columns().map(|field| field.ty).collect();
    let positions: Vec<syn::Index> = (0..types.len()).map(syn::Index::from).collect();
    let names = shape.columns().map(|field| field.name);
    let reads = positions.iter().map(|position| syn::Index::from(position.index as usize + 1));
    let time_field = shape.time().map(|field| {
        let name = field.name.to_string();
        quote!(const TIME: ::std::option::Option<&'static str> = ::std::option::Option::Some(#name);)
    });
    let time = shape.time().map(|field| {
        let (field, ty) = (field.name, field.ty);
        quote!(#field: <#ty as ::portcullis_sdk::Field<#batch>>::read(&columns.0, row),)
    });

    Ok(quote! {
        #[automatically_derived]
        impl ::portcullis_sdk::Row for #any {
            const ROW: &'static str = #text;
            const FIELDS: &'static [::portcullis_sdk::FieldSpec] = &[#(#specs),*];
            #time_field
            type At<#batch> = #at;
            type Columns<#batch> = (
                &#batch [u64],
                #(<#types as ::portcullis_sdk::Field<#batch>>::Column,)*
            );

            fn columns<#batch>(
                source: ::portcullis_sdk::Source<#batch>,
            ) -> ::portcullis_sdk::Result<Self::Columns<#batch>> {
                ::std::result::Result::Ok((
                    source.time(),
                    #(<#types as ::portcullis_sdk::Field<#batch>>::column(source.column(#positions)?)?,)*
                ))
            }

            #[inline]
            fn read<#batch>(columns: &Self::Columns<#batch>, row: usize) -> Self::At<#batch> {
                #name {
                    #time
                    #(#names: <#types as ::portcullis_sdk::Field<#batch>>::read(&columns.#reads, row),)*
                }
            }
        }
    })
}

/// A field's type with the struct's lifetime made `'static`, for constants, in which no other may stand.
fn outlive(ty: &Type, lifetime: &Lifetime) -> TokenStream {
    fn walk(tokens: TokenStream, lifetime: &Lifetime) -> TokenStream {
        use proc_macro2::{Group, Ident, TokenTree};
        let mut after_tick = false;
        tokens
            .into_iter()
            .map(|token| match token {
                TokenTree::Group(group) => TokenTree::Group(Group::new(group.delimiter(), walk(group.stream(), lifetime))),
                TokenTree::Ident(ident) if after_tick && ident == lifetime.ident => {
                    after_tick = false;
                    TokenTree::Ident(Ident::new("static", ident.span()))
                }
                other => {
                    after_tick = matches!(&other, TokenTree::Punct(punct) if punct.as_char() == '\'');
                    other
                }
            })
            .collect()
    }
    walk(quote!(#ty), lifetime)
}
