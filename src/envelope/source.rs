//! The source of a batch: text read in one pass, or a `jsonb` datum.

#![forbid(unsafe_code)]

use std::convert::Infallible;

use crate::json::{Json, JsonFault, Jsonb, Kind, Scanner, Str};

/// Values that can be read once, front to back.
pub(super) trait Source<'a>: Sized {
    /// Text can turn out not to be JSON; a datum cannot.
    type Fault;

    /// The kind of the next value.
    fn kind(&mut self) -> Result<Kind, Self::Fault>;

    /// The next value as a whole.
    fn take(&mut self) -> Result<Json<'a>, Self::Fault>;

    /// Reads the next value, an object: calls `member` for each member, and returns the object as a whole. A
    /// value that `member` does not read is skipped.
    fn object(
        &mut self,
        member: impl FnMut(&mut Self, Str<'a>) -> Result<(), Self::Fault>,
    ) -> Result<Json<'a>, Self::Fault>;

    /// Reads the next value, an array: calls `element` for each element, and returns the array as a whole. An
    /// element that `element` does not read is skipped.
    fn array(
        &mut self,
        element: impl FnMut(&mut Self) -> Result<(), Self::Fault>,
    ) -> Result<Json<'a>, Self::Fault>;
}

impl<'a> Source<'a> for Scanner<'a> {
    type Fault = JsonFault;

    #[inline(always)]
    fn kind(&mut self) -> Result<Kind, JsonFault> {
        Scanner::kind(self)
    }

    #[inline(always)]
    fn take(&mut self) -> Result<Json<'a>, JsonFault> {
        Scanner::take(self)
    }

    #[inline(always)]
    fn object(
        &mut self,
        member: impl FnMut(&mut Self, Str<'a>) -> Result<(), JsonFault>,
    ) -> Result<Json<'a>, JsonFault> {
        Scanner::object(self, member)
    }

    #[inline(always)]
    fn array(
        &mut self,
        element: impl FnMut(&mut Self) -> Result<(), JsonFault>,
    ) -> Result<Json<'a>, JsonFault> {
        Scanner::array(self, element)
    }
}

impl<'a> Source<'a> for Jsonb<'a> {
    type Fault = Infallible;

    fn kind(&mut self) -> Result<Kind, Infallible> {
        Ok(Jsonb::kind(*self))
    }

    fn take(&mut self) -> Result<Json<'a>, Infallible> {
        Ok(Json::Binary(*self))
    }

    fn object(
        &mut self,
        mut member: impl FnMut(&mut Self, Str<'a>) -> Result<(), Infallible>,
    ) -> Result<Json<'a>, Infallible> {
        for (raw, mut value) in self.members() {
            let escaped = false;
            member(&mut value, Str { raw, escaped })?;
        }
        Ok(Json::Binary(*self))
    }

    fn array(
        &mut self,
        mut element: impl FnMut(&mut Self) -> Result<(), Infallible>,
    ) -> Result<Json<'a>, Infallible> {
        for mut value in self.elements() {
            element(&mut value)?;
        }
        Ok(Json::Binary(*self))
    }
}
