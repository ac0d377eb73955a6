//! Workload definitions.
