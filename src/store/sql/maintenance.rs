//! [`Maintenance`](crate::store::Maintenance) over SQL.

/// Implements [`Maintenance`](crate::store::Maintenance) for a store that `sql_store!` has defined.
macro_rules! sql_maintenance {
    ($store:ident, $connection:ty, $begin:ident) => {
        impl $store {}

        impl Maintenance for $store {}
    };
}

pub(in crate::store) use sql_maintenance;
