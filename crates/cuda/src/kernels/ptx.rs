//! What the PTX that is checked in says of itself, against what is launched.

use super::{decode, fill, product, tiny};
use crate::driver::{Entry, Parameter};

/// A PTX file, the target it must name, and the entries launched from it.
const FILES: [(&str, &str, &[&Entry]); 5] = [
    (
        fill::PTX,
        "sm_75",
        &[&fill::FILL_F16, &fill::FILL_BF16, &fill::FILL_WORDS, &fill::COUNT_WRONG_WORDS, &fill::COUNT_NOT_FINITE],
    ),
    (
        decode::PTX,
        "sm_75",
        &[
            &decode::MATRIX_VECTOR_1,
            &decode::MATRIX_VECTOR_2,
            &decode::MATRIX_VECTOR_4,
            &decode::MATRIX_VECTOR_8,
            &decode::NORMALIZE,
            &decode::FEED_BACK,
            &decode::MIX,
        ],
    ),
    (product::PTX_80, "sm_80", &[&product::PRODUCT_WIDE, &product::PRODUCT_NARROW]),
    (product::PTX_75, "sm_75", &[&product::PRODUCT_PLAIN]),
    (tiny::PTX, "sm_75", &[&tiny::COUNT_UP, &tiny::WRITE_WORD]),
];

/// Entries of a PTX text: name and types of the parameters.
fn entries(ptx: &str) -> Vec<(&str, Vec<&str>)> {
    let listed = ptx.split(".entry ").skip(1).map(|rest| {
        let (name, rest) = rest.split_once('(').expect("a parameter list");
        let (list, _) = rest.split_once(')').expect("the list's end");
        let kinds = list.split(',').map(|item| item.split_whitespace().nth(1).expect("a type")).collect();
        (name.trim(), kinds)
    });
    listed.collect()
}

const fn kind(parameter: Parameter) -> &'static str {
    match parameter {
        Parameter::Wide => ".u64",
        Parameter::Narrow => ".u32",
        Parameter::Float => ".f32",
    }
}

#[test]
fn every_entry_takes_what_it_is_launched_with_and_none_is_left_over() {
    for (ptx, _, launched) in FILES {
        let mut found = entries(ptx);
        found.sort_unstable();
        let mut expected: Vec<(&str, Vec<&str>)> =
            launched.iter().map(|entry| (entry.name, entry.parameters.iter().copied().map(kind).collect())).collect();
        expected.sort_unstable();
        assert_eq!(found, expected);
    }
}

#[test]
fn every_file_loads_on_driver_535_and_its_oldest_card() {
    for (ptx, target, _) in FILES {
        let line = |prefix: &str| ptx.lines().find_map(|line| line.strip_prefix(prefix)).expect("a directive").trim();
        let version: Vec<u32> = line(".version ").split('.').map(|part| part.parse().expect("number")).collect();
        assert!(version <= vec![8, 2], "PTX ISA {version:?} needs a driver newer than 535");
        assert_eq!((line(".target "), line(".address_size ")), (target, "64"));
        assert!(!ptx.contains('\0'), "the driver reads to the first NUL");
    }
}
