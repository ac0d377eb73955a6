# The Rust compiler on a program of one file; then the program runs, and what it prints is checked.
set -eu
rustc --edition 2021 -C opt-level=1 --crate-name words -o words build.rs
./words
