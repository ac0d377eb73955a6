//! One file per foreign grammar.
