//! The checks that are not a compiler's, as tests: one for each rule.

use xtask::{
    tidy::{self, Check, Tree},
    workspace::root,
};

fn holds(check: Check) {
    let tree = Tree::read(root()).expect("the tests are run in a checkout");
    let findings = check(&tree).expect("the tree can be checked");
    let said: Vec<String> = findings.iter().map(ToString::to_string).collect();
    assert!(said.is_empty(), "\n\n{}\n", said.join("\n"));
}

macro_rules! rules {
    ($($name:ident = $check:path,)+) => {
        $(#[test] fn $name() { holds($check); })+

        /// A check that is listed and not held here would be run by `cargo xtask tidy` alone.
        #[test]
        fn every_check_is_a_test() {
            let held: &[Check] = &[$($check),+];
            assert_eq!(held.len(), tidy::CHECKS.len());
        }
    };
}

rules! {
    the_crate_graph_is_the_one_that_was_agreed_on = tidy::graph::golden,
    arrows_that_must_not_be_are_not = tidy::graph::forbidden,
    every_package_takes_the_lints_of_the_workspace = tidy::manifests::lints,
    crate_roots_forbid_unsafe_code = tidy::manifests::unsafe_code,
    every_rust_file_says_what_it_is = tidy::sources::heads,
    no_rust_file_is_too_long_to_read = tidy::sources::lengths,
    no_module_has_a_name_that_says_nothing = tidy::sources::names,
    links_and_paths_in_documents_lead_somewhere = tidy::documents::links,
    every_error_code_is_documented = tidy::documents::error_codes,
    nothing_is_left_to_be_done_later = tidy::texts::leftovers,
    no_file_knows_the_machine_that_it_was_written_on = tidy::texts::machine_paths,
}
