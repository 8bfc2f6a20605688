//! Requests as the description of the interface has them: the fields of several structs, together.

use super::{
    AnswerFields, AskFields, ChatFields, CommonFields, CompletionFields, ContextFields,
    MethodFields,
};
use utoipa::openapi::RefOr;
use utoipa::openapi::schema::{AllOfBuilder, Schema};
use utoipa::{PartialSchema, ToSchema};

/// Declares the schema of a request whose fields are those of several structs.
macro_rules! request {
    ($(#[doc = $doc:literal])* $name:ident = $($part:ty)|+) => {
        $(#[doc = $doc])*
        pub(crate) struct $name;

        impl PartialSchema for $name {
            fn schema() -> RefOr<Schema> {
                let all = AllOfBuilder::new()$(.item(<$part>::schema()))+;
                RefOr::T(Schema::AllOf(all.build()))
            }
        }

        impl ToSchema for $name {
            fn schemas(schemas: &mut Vec<(String, RefOr<Schema>)>) {
                $(<$part as ToSchema>::schemas(schemas);)+
            }
        }
    };
}

request! {
    /// `POST /v1/chat/completions`
    ChatRequestSchema = ChatFields | AnswerFields | MethodFields | CommonFields
}
request! {
    /// `POST /v1/completions`
    CompletionRequestSchema = CompletionFields | AnswerFields | MethodFields | CommonFields
}
request! {
    /// `POST /v1/contexts`
    NewContextSchema = ContextFields | MethodFields
}
request! {
    /// `POST /v1/contexts/{id}/ask`
    AskRequestSchema = AskFields | AnswerFields
}
