//! [`Operations`](crate::store::Operations) over SQL.

/// Implements [`Operations`](crate::store::Operations) for a store that `sql_store!` has defined.
macro_rules! sql_operations {
    ($store:ident, $connection:ty, $begin:ident) => {
        impl $store {}

        impl Operations for $store {}
    };
}

pub(in crate::store) use sql_operations;
