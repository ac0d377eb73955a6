//! C++ operators as tools name them: mangled, as in `_ZnwmSt11align_val_t`.

/// What an operator does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Operator {
    /// `operator new`, `operator new[]`.
    New {
        /// Its last but one or only argument beside the size is an alignment.
        aligned: bool,
    },
    /// `operator delete`, `operator delete[]`.
    Delete {
        /// It was given the size.
        sized: bool,
    },
}

/// The operator of this name, if it is one.
pub(super) fn operator(name: &[u8]) -> Option<Operator> {
    match name {
        // As old compilers named them.
        b"__builtin_new" | b"__builtin_vec_new" => return Some(Operator::New { aligned: false }),
        b"__builtin_delete" | b"__builtin_vec_delete" => {
            return Some(Operator::Delete { sized: false });
        }
        _ => {}
    }
    let rest = name.strip_prefix(b"_Z")?;
    let (kind, rest) = rest.split_at_checked(2)?;
    match kind {
        // The size is `unsigned long`, or `unsigned int` on 32-bit machines.
        b"nw" | b"na" => {
            let rest = rest.strip_prefix(b"m").or(rest.strip_prefix(b"j"))?;
            let aligned = rest.starts_with(b"St11align_val_t");
            Some(Operator::New { aligned })
        }
        b"dl" | b"da" => {
            let rest = rest.strip_prefix(b"Pv")?;
            let sized = matches!(rest.first(), Some(b'm' | b'j'));
            Some(Operator::Delete { sized })
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        let new = |aligned| Some(Operator::New { aligned });
        let delete = |sized| Some(Operator::Delete { sized });
        for (name, expected) in [
            ("_Znwm", new(false)),
            ("_Znaj", new(false)),
            ("_ZnamRKSt9nothrow_t", new(false)),
            ("_ZnwmSt11align_val_tRKSt9nothrow_t", new(true)),
            ("_ZdlPv", delete(false)),
            ("_ZdaPvSt11align_val_t", delete(false)),
            ("_ZdlPvmSt11align_val_t", delete(true)),
            ("__builtin_vec_new", new(false)),
            ("_Znw", None),
            ("_Zn", None),
            ("_ZN3fooEv", None),
            ("malloc", None),
        ] {
            assert_eq!(operator(name.as_bytes()), expected, "{name}");
        }
    }
}
