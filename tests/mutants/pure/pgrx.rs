// The part of pgrx that the rooms name.

pub mod pg_sys {
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub struct Oid(u32);

    pub const InvalidOid: Oid = Oid(0);

    impl Oid {
        pub fn to_u32(self) -> u32 {
            self.0
        }
    }

    impl From<u32> for Oid {
        fn from(number: u32) -> Oid {
            Oid(number)
        }
    }
}

pub mod spi {
    pub fn quote_qualified_identifier(schema: &str, name: &str) -> String {
        let ident = crate::error::quote::ident;
        format!("{}.{}", ident(schema), ident(name))
    }
}
