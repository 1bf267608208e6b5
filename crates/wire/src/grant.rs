//! Lists of grants, as texts.

use wasmatrix_model::{Grant, Grants, failure::Invalid};

use crate::field;

/// Grants as texts, in order.
pub fn grants_to_v1(grants: &Grants) -> Vec<String> {
    grants.iter().map(Grant::to_string).collect()
}

/// Grants from texts; one that is said twice counts once. The field in an objection is `grants[INDEX]`, or `grants`
/// if there are too many.
///
/// # Errors
/// A text is no grant, or there are more than an instance can hold.
pub fn grants_from_v1(texts: &[String]) -> Result<Grants, Invalid> {
    let mut grants = Grants::default();
    for (index, text) in texts.iter().enumerate() {
        grants.assign(field::text(&format!("grants[{index}]"), text)?)?;
    }
    Ok(grants)
}
